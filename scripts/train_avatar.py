"""``python scripts/train_avatar.py --data=sequence --preset=tiny``:
the same as ``gghead train avatar``."""

from _checkout import run

if __name__ == "__main__":
    run("train avatar")
