"""``python scripts/compare_avatars.py --data=sequence``: see training/cli/compare_avatars.py."""

from gghead.training.cli.compare_avatars import main

if __name__ == "__main__":
    main()
