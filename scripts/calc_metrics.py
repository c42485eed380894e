"""``python scripts/calc_metrics.py [gan|heads|avatar|encoder|expression|prior]``:
the same as ``gghead score``."""

from _checkout import run

if __name__ == "__main__":
    run("score")
