"""``python scripts/invert.py --network=RUN --target=photo.png``: see gghead/cli/invert.py."""

from gghead.cli.invert import main

if __name__ == "__main__":
    main()
