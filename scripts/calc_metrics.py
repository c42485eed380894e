"""``python scripts/calc_metrics.py [network|avatar|encoder|expression|prior]``: see training/metrics/cli.py."""

from gghead.training.metrics.cli import main

if __name__ == "__main__":
    main()
