"""``python -m gghead.torch_utils.run_quietly TEXT COMMAND…``: a command under a line that moves.

What the command says is shown if it fails. Needs nothing but Python, since it runs before anything
is installed.
"""

import subprocess
import sys
import tempfile

from gghead.torch_utils.progress import progress


def run_quietly(text: str, command: list[str]) -> int:
    """Run ``command``, show ``text`` and the time meanwhile, and what it said if it failed.

    Return its status.
    """
    with tempfile.TemporaryFile() as said:
        with progress(text):
            status = subprocess.run(command, stdout=said, stderr=subprocess.STDOUT).returncode
        if status:
            said.seek(0)
            sys.stderr.write(said.read().decode(errors="replace"))
            print(f"{text}: '{' '.join(command)}' ended with status {status}.", file=sys.stderr)
    return status


if __name__ == "__main__":
    try:
        sys.exit(run_quietly(sys.argv[1], sys.argv[2:]))
    except KeyboardInterrupt:
        sys.exit(130)
