"""``python gen_samples.py --seeds=0-7``: see gghead/cli/gen_samples.py."""

from gghead.cli.gen_samples import main

if __name__ == "__main__":
    main()
