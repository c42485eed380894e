"""``python scripts/score_avatar.py --avatar=RUN``: the same as ``gghead score avatar``."""

from _checkout import run

if __name__ == "__main__":
    run("score avatar")
