"""calc_metrics.py on a small untrained network, and its other tasks."""

import json

import numpy
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from gghead import checkpoints
from gghead.cameras import Cameras
from gghead.cli.main import score as command
from gghead.models.config import GeneratorConfig
from gghead.models.generator import Generator
from gghead.torch_utils import config as config_json
from gghead.training.gan.config import DataConfig, TrainConfig
from gghead.training.metrics import swd
from gghead.training.run import run_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with a snapshot of step 0 and its data set."""
    folder = tmp_path_factory.mktemp("run")
    data = folder / "data"
    data.mkdir()
    random, labels = numpy.random.RandomState(0), []
    for index in range(6):
        Image.fromarray(random.randint(0, 256, (32, 32, 3), dtype=numpy.uint8)).save(
            data / f"{index}.png"
        )
        labels.append([f"{index}.png", Cameras.orbit(0.1 * index).label()[0].tolist()])
    (data / "dataset.json").write_text(json.dumps({"labels": labels}))
    config = GeneratorConfig(
        z_dim=8,
        w_dim=8,
        plane_resolution=16,
        latent_resolution=8,
        cbase=64,
        cmax=8,
        grid=16,
        image_size=32,
        template="plane",
    )
    train = TrainConfig(data=DataConfig(path=str(data), background="image"), generator=config)
    (folder / run_folder.OPTIONS).write_text(json.dumps(config_json.to_dict(train)))
    torch.manual_seed(0)
    checkpoints.save(Generator(config), folder / "network-snapshot-000000.safetensors")
    return folder


def test_distances_are_printed_and_appended(run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # the native one would be built anew into that empty cache
    monkeypatch.setenv("GGHEAD_RASTERIZER", "torch")
    monkeypatch.setattr(swd.PatchSet.__init__, "__defaults__", (0, 256))
    options = [f"--network={run}", "--metrics=frd8,swd8", "--batch=4", "--device=cpu"]
    result = CliRunner().invoke(command, options)
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
    assert [record["metric"] for record in records] == ["frd8", "swd8"]
    assert all(record["results"][record["metric"]] > 0 for record in records)
    assert records[0]["snapshot"] == "network-snapshot-000000.safetensors"
    assert json.loads((run / "metric-frd8.jsonl").read_text())["results"] == records[0]["results"]
    again = CliRunner().invoke(
        command, [*options[:1], "--metrics=frd8", "--batch=4", "--device=cpu"]
    )
    assert json.loads(again.output.splitlines()[-1])["results"] == records[0]["results"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--metrics=is50k"], "is50k"),
        (["--metrics=fid50k"], "--feature-net"),
        (["--metrics=fd2k"], "--feature-net=efficientnet-lite2"),
        (["--metrics=fd2k", "--feature-net=efficientnet-lite2:no.whl"], "no weight file no.whl"),
        (["--background=white"], "masks"),
    ],
)
def test_faults_are_one_sentence(run, options, word):
    result = CliRunner().invoke(command, [f"--network={run}", "--device=cpu", *options])
    assert result.exit_code == 1 and word in result.output and "Traceback" not in result.output


def test_a_network_outside_a_run_needs_data(run, tmp_path):
    alone = tmp_path / "network.safetensors"
    alone.write_bytes((run / "network-snapshot-000000.safetensors").read_bytes())
    result = CliRunner().invoke(command, [f"--network={alone}", "--device=cpu"])
    assert result.exit_code == 1 and "--data" in result.output


def test_avatars_are_measured_here_too(run):
    listed = CliRunner().invoke(command, ["--help"]).output
    assert all(
        task in listed for task in ("gan", "heads", "avatar", "encoder", "expression", "prior")
    )
    assert "--split" in CliRunner().invoke(command, ["avatar", "--help"]).output
    result = CliRunner().invoke(command, ["avatar", f"--avatar={run}", "--device=cpu"])
    assert result.exit_code == 1 and "avatar" in result.output and "Traceback" not in result.output
    assert CliRunner().invoke(command, ["video"]).exit_code == 2
