"""``python scripts/score_expression.py --network=RUN --data=captures.zip``:
the same as ``gghead score expression``."""

from _checkout import run

if __name__ == "__main__":
    run("score expression")
