"""``python scripts/score_encoder.py --network=RUN --data=CAPTURES``:
the same as ``gghead score encoder``."""

from _checkout import run

if __name__ == "__main__":
    run("score encoder")
