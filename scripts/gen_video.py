"""``python scripts/gen_video.py --seeds=0-3 --output=heads.webp``: see gghead/cli/gen_video.py."""

from gghead.cli.gen_video import main

if __name__ == "__main__":
    main()
