"""``python scripts/edit.py mix --network=demo --rows=0-2 --cols=3-6 --layers=5-9``:
the same as ``gghead edit``."""

from _checkout import run

if __name__ == "__main__":
    run("edit")
