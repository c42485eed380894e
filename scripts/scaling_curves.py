"""``python scripts/scaling_curves.py --data=CAPTURES``: see training/encoder/scaling_cli.py."""

from gghead.training.encoder.scaling_cli import main

if __name__ == "__main__":
    main()
