"""``python scripts/train_encoder.py --data=captures.zip --preset=tiny``: see training/encoder/cli.py."""

from gghead.training.encoder.cli import main

if __name__ == "__main__":
    main()
