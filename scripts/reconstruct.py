"""``python scripts/reconstruct.py --network=RUN --data=CAPTURES --subject=108``:
the same as ``gghead reconstruct``."""

from _checkout import run

if __name__ == "__main__":
    run("reconstruct")
