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


def affordable_steps() -> int:
    """A few minutes' training: how much that is depends on the rasterizer that works here."""
    import torch

    from gghead.rendering import registry

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if registry.resolve("auto", device).backend.name != "torch":
        return 3000
    print(
        "No C++ compiler was found, so a training step takes about two and a half times as long and"
        " this demo trains for 1200 steps only; for better heads, `apt install g++` and start"
        " again."
    )
    return 1200


def newest_run(runs: Path) -> tuple[Path, int] | None:
    """Return the highest-numbered run that can be resumed and its steps so far, or ``None``."""
    states = []
    for state in runs.glob("*/training-state-*.pt"):
        run, steps = re.match(r"(\d+)-", state.parent.name), re.search(r"-(\d+)$", state.stem)
        if run and steps:
            states.append((int(run[1]), int(steps[1]), state.parent))
    if not states:
        return None
    _, steps, folder = max(states, key=lambda state: state[:2])
    return folder, steps


def train(data: Path, steps: int, fresh: bool) -> Path:
    """Start a run, continue the newest one, or leave it if it has done its steps.

    Returns its folder.
    """
    runs = DEMO / "runs"
    found = None if fresh else newest_run(ROOT / runs)
    if found is None:
        call(
            "scripts/train_decoder.py",
            f"--data={data}",
            "--preset=tiny",
            f"--steps={steps}",
            f"--outdir={runs}",
        )
        found = newest_run(ROOT / runs)
    elif found[1] < steps:
        call(
            "scripts/train_decoder.py",
            f"--resume={found[0].relative_to(ROOT)}",
            f"--steps={steps}",
        )
    else:
        print(
            f"\n{found[0].relative_to(ROOT)} has done {found[1]} steps already;"
            f" --steps={2 * steps} trains it on."
        )
    if found is None:
        raise UserError(f"Training left no training-state-*.pt below {runs}.")
    return found[0].relative_to(ROOT)


@cli.command(
    stopped="Nothing is lost: `make demo` goes on where training last saved its state.",
    moving=False,
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="Steps of training, counted from the run's start  [default: 3000, or 1200 without g++]",
)
@click.option(
    "--seeds", type=cli.IntRangeList(), default="0-7", show_default=True, help="Heads to draw"
)
@cli.switch("--fresh", default=False, help="Start a new run instead of continuing the last one")
def main(steps: int | None, seeds: list[int], fresh: bool) -> None:
    """Make synthetic heads, train the tiny preset on them, draw what it has learned."""
    started = time.monotonic()
    print(f"First run: heads, data, training and images go to {ROOT / DEMO}", flush=True)
    make_folder(ROOT / DEMO)
    steps = steps or affordable_steps()
    data, samples, strip = DEMO / "captures.zip", DEMO / "samples", DEMO / "strip.png"
    shipped = DEMO / "shipped.png"
    image = "grid.png" if len(seeds) > 1 else f"seed{seeds[0]:04d}.png"
    turning, splat = DEMO / "turning.webp", samples / f"seed{seeds[0]:04d}.ply"
    drawing = [f"--seeds={','.join(map(str, seeds))}", "--size=128", "--overwrite"]
    if not (ROOT / shipped).exists():
        folder = DEMO / "shipped"
        call("gen_samples.py", "--network=demo", *drawing, f"--outdir={folder}")
        shutil.copy(ROOT / folder / image, ROOT / shipped)
        print(f"{shipped} shows what the shipped network makes. Now a run of your own:")
    if not (ROOT / data).exists():
        call(
            "datasets/synthetic_heads.py",
            f"--dest={data}",
            "--num=1600",
            "--views=8",
            "--cameras=full",
            "--resolution=64",
            "--seed=0",
        )
    run = train(data, steps, fresh)
    call("gen_samples.py", f"--network={run}", *drawing, f"--outdir={samples}", "--shapes")
    shutil.copy(ROOT / samples / image, ROOT / strip)
    some = seeds[:4]
    call(
        "scripts/gen_video.py",
        f"--network={run}",
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
        (shipped.name, "heads of the shipped network (python gen_samples.py)"),
        (strip.name, f"{len(seeds)} seeds, three views each"),
        (turning.name, f"{len(some)} heads turning"),
        (splat.relative_to(DEMO), "a head as Gaussian splats, for any splat viewer"),
        (run.relative_to(DEMO), "the training run"),
    ]:
        print(f"  {DEMO / path}  ({what})")


if __name__ == "__main__":
    main()
