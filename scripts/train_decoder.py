"""``python scripts/train_decoder.py --data=captures.zip``:
the same as ``gghead train decoder``."""

from _checkout import run

if __name__ == "__main__":
    run("train decoder")
