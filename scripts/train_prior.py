"""``python scripts/train_prior.py --network=demo --samples=20000``: see training/prior/cli.py."""

from gghead.training.prior.cli import main

if __name__ == "__main__":
    main()
