"""``python scripts/calc_metrics.py [network|avatar|encoder|expression|prior]``: see
training/cli/calc_metrics.py."""

from gghead.training.cli.calc_metrics import main

if __name__ == "__main__":
    main()
