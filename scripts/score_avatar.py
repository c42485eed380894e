"""``python scripts/score_avatar.py --avatar=RUN``: see training/avatar/score_cli.py."""

from gghead.training.avatar.score_cli import main

if __name__ == "__main__":
    main()
