"""``python scripts/animate.py --avatar=RUN --drive=sequence --output=out.mp4``:
the same as ``gghead animate``."""

from _checkout import run

if __name__ == "__main__":
    run("animate")
