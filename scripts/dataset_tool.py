"""Make, convert, check and cut training data: ``dataset_tool.py photos | convert | check |
shard``."""

from gghead.cli.dataset_tool import main

if __name__ == "__main__":
    main()
