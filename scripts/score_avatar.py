"""``python scripts/score_avatar.py --avatar=RUN``: see training/cli/score_avatar.py."""

from gghead.training.cli.score_avatar import main

if __name__ == "__main__":
    main()
