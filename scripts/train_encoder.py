"""``python scripts/train_encoder.py --data=captures.zip --preset=tiny``:
the same as ``gghead train encoder``."""

from _checkout import run

if __name__ == "__main__":
    run("train encoder")
