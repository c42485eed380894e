"""``python scripts/encode.py --network=RUN --data=CAPTURES``: the same as ``gghead encode``."""

from _checkout import run

if __name__ == "__main__":
    run("encode")
