"""``python datasets/synthetic_heads.py --dest=heads.zip --num=2000``: see
gghead/cli/synthetic_heads.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gghead.cli.synthetic_heads import main  # noqa: E402

if __name__ == "__main__":
    main()
