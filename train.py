"""Train a generator of 3D Gaussian heads: ``python train.py --data=heads.zip``. See
``training/cli/train_gan.py``."""

from gghead.training.cli.train_gan import main

if __name__ == "__main__":
    main()
