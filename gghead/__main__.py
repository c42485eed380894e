"""``python -m gghead``: the command ``gghead``."""

from gghead.cli.main import main

if __name__ == "__main__":
    main()
