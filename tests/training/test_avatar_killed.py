"""An avatar's run that is killed without warning goes on from its last state as if nothing had
happened."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from helpers.avatar_sequence import write_sequence
from helpers.places import ROOT

import gghead
from gghead.training.avatar import config
from gghead.training.cli import train_avatar as cli

# Refinements after 5, 10, 15 and 20 steps; a state every 8. Both processes read this.
CHANGES = {"densify": {"start": 4, "until": 25, "every": 5, "gradient": 1e-5, "max_gaussians": 90}}
OPTIONS = [
    "--preset=tiny",
    "--resolution=24",
    "--points=40",
    "--feature-dim=4",
    "--tick=4",
    "--snap=2",
    "--steps=24",
    "--device=cpu",
]
DEATHS = {
    # Some of the Gaussians' parameters are exchanged; the others, and Adam's memory of them, are
    # still the old ones.
    "among the parameters of a split": (
        """
import gghead.training.avatar.densify as module
exchange, refine, calls = module.nn.Parameter, module.Densifier.refine, []
def parameter(value, **options):
    calls.append(value)
    if len(calls) == 3:
        die()
    return exchange(value, **options)
def late(self, avatar, optimizer, iteration, random):
    if iteration > 8:
        module.nn = types.SimpleNamespace(Parameter=parameter)
    return refine(self, avatar, optimizer, iteration, random)
module.Densifier.refine = late
"""
    ),
    "with a state half written": (
        """
import gghead.training.run.run_folder as module
save, calls = torch.save, []
def saved(state, file):
    calls.append(state)
    if len(calls) == 2:
        file.write(b"PK" + bytes(5000))
        file.flush()
        die()
    save(state, file)
module.torch.save = saved
"""
    ),
}
PROGRAM = """
import dataclasses, json, os, signal, sys, types
import torch
from gghead.training.avatar import config
from gghead.training.cli import train_avatar as cli
from gghead.torch_utils import config as config_json
def die():
    os.kill(os.getpid(), signal.SIGKILL)
config.PRESETS["tiny"] = config_json.replace(config.PRESETS["tiny"], json.loads(sys.argv[1]))
{death}
cli.main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_sequence(tmp_path_factory.mktemp("sequence") / "person")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that nobody interrupted."""
    outdir = tmp_path_factory.mktemp("whole")
    plan = config.DensifyConfig(**CHANGES["densify"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.PRESETS, "tiny", replace(config.PRESETS["tiny"], densify=plan))
        result = CliRunner().invoke(cli.main, [f"--data={data}", f"--outdir={outdir}", *OPTIONS])
    assert result.exit_code == 0, result.output
    return next(outdir.iterdir())


def lines(folder):
    return [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("death", DEATHS)
def test_kill_9_loses_nothing_that_was_saved(death, whole, data, tmp_path):
    arguments = [json.dumps(CHANGES), f"--data={data}", f"--outdir={tmp_path}", *OPTIONS]
    program = PROGRAM.format(death=DEATHS[death])
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = next(tmp_path.iterdir())
    saved = sorted(path.name for path in folder.glob("training-state-*.pt"))
    assert (
        saved == ["training-state-000008.pt"]
        and not (folder / "avatar-000024.safetensors").exists()
    )

    result = CliRunner().invoke(cli.main, [f"--resume={folder}", "--device=cpu"])
    assert result.exit_code == 0, result.output
    mine, other = (
        gghead.load(run / "avatar-000024.safetensors").state_dict() for run in (folder, whole)
    )
    assert len(mine["means"]) > 40 and mine.keys() == other.keys()
    for name, value in mine.items():
        assert torch.equal(value, other[name]), name
    timing = ("Timing", "Resources", "timestamp")
    kept = [
        [
            {key: value for key, value in line.items() if not key.startswith(timing)}
            for line in lines(run)
        ]
        for run in (folder, whole)
    ]
    assert kept[0] == kept[1]  # ticks beyond the state were dropped when they were done again
