"""``python scripts/benchmark.py raster|train|sample|data|encode|compression|avatar``:
the same as ``gghead benchmark``."""

from _checkout import run

if __name__ == "__main__":
    run("benchmark")
