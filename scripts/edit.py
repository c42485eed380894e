"""``python scripts/edit.py mix --network=demo --rows=0-2 --cols=3-6 --layers=5-9``: see
gghead/cli/edit."""

from gghead.cli.edit import main

if __name__ == "__main__":
    main()
