"""``python scripts/score_prior.py --prior=RUN``: see training/cli/score_prior.py."""

from gghead.training.cli.score_prior import main

if __name__ == "__main__":
    main()
