"""``python datasets/synthetic_sequence.py --dest=person.zip --frames=600``:
the same as ``gghead data sequence``."""

from _checkout import run

if __name__ == "__main__":
    run("data sequence")
