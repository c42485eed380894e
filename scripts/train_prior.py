"""``python scripts/train_prior.py --network=demo --samples=20000``:
the same as ``gghead train prior``."""

from _checkout import run

if __name__ == "__main__":
    run("train prior")
