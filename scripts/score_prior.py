"""``python scripts/score_prior.py --prior=RUN``: see training/prior/score_cli.py."""

from gghead.training.prior.score_cli import main

if __name__ == "__main__":
    main()
