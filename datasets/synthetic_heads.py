"""``python datasets/synthetic_heads.py --dest=heads.zip --num=2000``:
the same as ``gghead data synthetic``."""

from _checkout import run

if __name__ == "__main__":
    run("data synthetic")
