"""``python scripts/train_encoder.py --data=captures.zip --preset=tiny``: see
training/cli/train_encoder.py."""

from gghead.training.cli.train_encoder import main

if __name__ == "__main__":
    main()
