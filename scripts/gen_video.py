"""``python scripts/gen_video.py --seeds=0-3 --output=heads.webp``: the same as ``gghead video``."""

from _checkout import run

if __name__ == "__main__":
    run("video")
