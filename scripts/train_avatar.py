"""``python scripts/train_avatar.py --data=sequence --preset=tiny``: see training/avatar/cli.py."""

from gghead.training.avatar.cli import main

if __name__ == "__main__":
    main()
