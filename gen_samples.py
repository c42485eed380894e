"""``python gen_samples.py --seeds=0-7``: the same as ``gghead sample``."""

from gghead.cli.main import run

if __name__ == "__main__":
    run("sample")
