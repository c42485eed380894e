"""``python scripts/train_expression.py --network=RUN --data=captures.zip``:
the same as ``gghead train expression``."""

from _checkout import run

if __name__ == "__main__":
    run("train expression")
