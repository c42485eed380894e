"""``python scripts/scaling_curves.py --data=CAPTURES``: see training/cli/scaling_curves.py."""

from gghead.training.cli.scaling_curves import main

if __name__ == "__main__":
    main()
