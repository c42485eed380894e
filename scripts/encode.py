"""``python scripts/encode.py --network=RUN --data=CAPTURES``: see gghead/cli/encode.py."""

from gghead.cli.encode import main

if __name__ == "__main__":
    main()
