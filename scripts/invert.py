"""``python scripts/invert.py --network=RUN --target=photo.png``: the same as ``gghead invert``."""

from _checkout import run

if __name__ == "__main__":
    run("invert")
