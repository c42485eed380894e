"""Make, convert and check training data: ``dataset_tool.py photos | convert | check``; see each one's --help."""

from gghead.cli.dataset_tool import main

if __name__ == "__main__":
    main()
