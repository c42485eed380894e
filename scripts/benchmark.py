"""``python scripts/benchmark.py raster|train|sample|data|encode|compression|avatar``: see
training/benchmarks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gghead.training.benchmarks import main  # noqa: E402

if __name__ == "__main__":
    main()
