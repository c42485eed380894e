"""``python train.py --data=heads.zip``: the same as ``gghead train gan``."""

from gghead.cli.main import run

if __name__ == "__main__":
    run("train gan")
