"""``python scripts/dataset_tool.py photos|check|convert|shard|synthetic|sequence``:
the same as ``gghead data``."""

from _checkout import run

if __name__ == "__main__":
    run("data")
