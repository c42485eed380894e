"""``python scripts/animate.py --avatar=RUN --drive=sequence --output=out.mp4``: see
gghead/cli/animate.py."""

from gghead.cli.animate import main

if __name__ == "__main__":
    main()
