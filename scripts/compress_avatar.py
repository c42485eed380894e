"""``python scripts/compress_avatar.py --avatar=RUN --dest=FILE``: see
training/cli/compress_avatar.py."""

from gghead.training.cli.compress_avatar import main

if __name__ == "__main__":
    main()
