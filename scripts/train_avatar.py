"""``python scripts/train_avatar.py --data=sequence --preset=tiny``: see
training/cli/train_avatar.py."""

from gghead.training.cli.train_avatar import main

if __name__ == "__main__":
    main()
