"""The first run: heads of the shipped network, then synthetic data, a few minutes of training,
images, a splat file.

Everything is done by the commands that people type (each is printed). Started again, it trains the
same run on.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import _checkout  # noqa: F401  (finds gghead where it is not installed)
import click

from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import make_folder

ROOT = Path(__file__).resolve().parent.parent
DEMO = Path("demo")


def call(script: str, *options: str) -> None:
    """Run one of the project's commands and wait for it, also after Ctrl-C, which the command gets
    as well."""
    print(f"\n$ {shlex.join(['python', script, *options])}", flush=True)
    search = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, script, *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": search, "PYTHONUNBUFFERED": "1"},
    )
    stopped = False
    while True:
        try:
            status = process.wait()
            break
        except KeyboardInterrupt:
            stopped = True
    if stopped:
        raise KeyboardInterrupt
    if status:
        raise UserError(f"{script} ended with status {status}; its message stands above.")


def affordable_kimg() -> float:
    """A few minutes' training: how much that is depends on the rasterizer that works here."""
    import torch

    from gghead.rendering import registry

    if (
        registry.resolve("auto", "cuda" if torch.cuda.is_available() else "cpu").backend.name
        != "torch"
    ):
        return 20.0
    print(
        "No C++ compiler was found, so a training step takes about two and a half times as long and"
        " this demo trains on 10 kimg only; for better heads, `apt install g++` and start again."
    )
    return 10.0


def newest_run(runs: Path) -> tuple[Path, float] | None:
    """Return the highest-numbered run that can be resumed and the kimg it has reached, or
    ``None``."""
    states = []
    for state in runs.glob("*/training-state-*.pt"):
        run, kimg = (
            re.match(r"(\d+)-", state.parent.name),
            re.search(r"-(\d+(?:\.\d+)?)$", state.stem),
        )
        if run and kimg:
            states.append((int(run[1]), float(kimg[1]), state.parent))
    if not states:
        return None
    _, kimg, folder = max(states, key=lambda state: state[:2])
    return folder, kimg


def train(data: Path, kimg: float, fresh: bool) -> Path:
    """Start a run, continue the newest one, or leave it if it has seen ``kimg`` thousand images;
    return its folder."""
    runs = DEMO / "runs"
    found = None if fresh else newest_run(ROOT / runs)
    if found is None:
        call("train.py", f"--data={data}", "--preset=tiny", f"--kimg={kimg:g}", f"--outdir={runs}")
        found = newest_run(ROOT / runs)
    elif found[1] < kimg:
        call("train.py", f"--resume={found[0].relative_to(ROOT)}", f"--kimg={kimg:g}")
    else:
        print(
            f"\n{found[0].relative_to(ROOT)} has seen {found[1]:g} kimg already;"
            f" --kimg={2 * kimg:g} trains it on."
        )
    if found is None:
        raise UserError(f"Training left no training-state-*.pt below {runs}.")
    return found[0].relative_to(ROOT)


@cli.command(
    stopped="Nothing is lost: `make demo` goes on where training last saved its state.",
    moving=False,
)
@click.option(
    "--kimg",
    type=click.FloatRange(min=0, min_open=True),
    help=(
        "Thousands of images to train with, counted from the run's start  [default: 20, or 10"
        " without g++]"
    ),
)
@click.option(
    "--seeds", type=cli.IntRangeList(), default="0-7", show_default=True, help="Heads to draw"
)
@cli.switch("--fresh", default=False, help="Start a new run instead of continuing the last one")
def main(kimg: float | None, seeds: list[int], fresh: bool) -> None:
    """Make synthetic heads, train the tiny preset on them, draw what it has learned."""
    started = time.monotonic()
    print(f"First run: heads, data, training and images go to {ROOT / DEMO}", flush=True)
    make_folder(ROOT / DEMO)
    kimg = kimg or affordable_kimg()
    data, samples, strip = DEMO / "heads.zip", DEMO / "samples", DEMO / "strip.png"
    shipped = DEMO / "shipped.png"
    image = "grid.png" if len(seeds) > 1 else f"seed{seeds[0]:04d}.png"
    turning, splat = DEMO / "turning.webp", samples / f"seed{seeds[0]:04d}.ply"
    drawing = ["--trunc=0.7", f"--seeds={','.join(map(str, seeds))}", "--size=128", "--overwrite"]
    if not (ROOT / shipped).exists():
        folder = DEMO / "shipped"
        call("gen_samples.py", "--network=demo", *drawing, f"--outdir={folder}")
        shutil.copy(ROOT / folder / image, ROOT / shipped)
        print(f"{shipped} shows what the shipped network makes. Now a run of your own:")
    if not (ROOT / data).exists():
        call(
            "datasets/synthetic_heads.py",
            f"--dest={data}",
            "--num=2000",
            "--resolution=64",
            "--seed=0",
        )
    run = train(data, kimg, fresh)
    call("gen_samples.py", f"--network={run}", *drawing, f"--outdir={samples}", "--shapes")
    shutil.copy(ROOT / samples / image, ROOT / strip)
    some = seeds[:4]
    call(
        "scripts/gen_video.py",
        f"--network={run}",
        "--trunc=0.7",
        f"--seeds={','.join(map(str, some))}",
        f"--grid={len(some)}x1",
        "--frames=60",
        "--fps=20",
        "--size=128",
        f"--output={turning}",
        "--overwrite",
    )
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(f"\nDone in {minutes} min {seconds:02d} s. In {DEMO}/:")
    for path, what in [
        (shipped.name, "heads of the shipped network (python gen_samples.py --trunc=0.7)"),
        (strip.name, f"{len(seeds)} seeds, three views each"),
        (turning.name, f"{len(some)} heads turning"),
        (splat.relative_to(DEMO), "a head as Gaussian splats, for any splat viewer"),
        (run.relative_to(DEMO), "the training run"),
    ]:
        print(f"  {DEMO / path}  ({what})")


if __name__ == "__main__":
    main()
