"""``python scripts/convert_network.py --network=RUN --dest=small.safetensors``: see
gghead/cli/convert_network.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gghead.cli.convert_network import main  # noqa: E402

if __name__ == "__main__":
    main()
