"""``python datasets/synthetic_sequence.py --dest=person.zip --frames=600``: see
gghead/cli/synthetic_sequence.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gghead.cli.synthetic_sequence import main  # noqa: E402

if __name__ == "__main__":
    main()
