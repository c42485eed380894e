"""Train a generator of 3D Gaussian heads: ``python train.py --data=heads.zip``. See ``training/cli.py``."""

from gghead.training.cli import main

if __name__ == "__main__":
    main()
