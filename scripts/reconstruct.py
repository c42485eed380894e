"""``python scripts/reconstruct.py --network=RUN --data=CAPTURES --subject=108``: see
gghead/cli/reconstruct.py."""

from gghead.cli.reconstruct import main

if __name__ == "__main__":
    main()
