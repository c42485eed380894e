"""``python scripts/score_avatar.py --avatar=RUN``: see training/avatar/score_cli.py."""

from training.avatar.score_cli import main

if __name__ == "__main__":
    main()
