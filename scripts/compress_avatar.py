"""``python scripts/compress_avatar.py --avatar=RUN --dest=FILE``:
the same as ``gghead compress``."""

from _checkout import run

if __name__ == "__main__":
    run("compress")
