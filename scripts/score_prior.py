"""``python scripts/score_prior.py --prior=RUN``: the same as ``gghead score prior``."""

from _checkout import run

if __name__ == "__main__":
    run("score prior")
