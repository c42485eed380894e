"""``python scripts/train_prior.py --network=demo --samples=20000``: see
training/cli/train_prior.py."""

from gghead.training.cli.train_prior import main

if __name__ == "__main__":
    main()
