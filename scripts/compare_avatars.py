"""``python scripts/compare_avatars.py --data=sequence``: see training/avatar/variants_cli.py."""

from gghead.training.avatar.variants_cli import main

if __name__ == "__main__":
    main()
