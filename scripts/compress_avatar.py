"""``python scripts/compress_avatar.py --avatar=RUN --dest=FILE``: see training/avatar/compress_cli.py."""

from gghead.training.avatar.compress_cli import main

if __name__ == "__main__":
    main()
