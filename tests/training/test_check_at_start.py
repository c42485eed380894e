"""What train.py itself checks before the first step, and what it says of waiting for data."""

import json
import time

import numpy as np
import pytest
from click.testing import CliRunner

from gghead.cameras import Cameras
from gghead.data.check.report import check_at_start
from gghead.data.dataset import ImageDataset
from gghead.data.dataset_zip import DatasetWriter, image_name
from gghead.data.loader import BatchLoader
from gghead.torch_utils.errors import UserError
from gghead.training.cli.train_gan import main

TINY = (
    "--set=generator.plane_resolution=16",
    "--set=generator.latent_resolution=8",
    "--set=generator.template=sphere",
    "--set=stages.image_size=32",
    "--set=stages.grid=16",
    "--cbase=128",
    "--cmax=8",
    "--batch=4",
    "--tick=0.008",
    "--snap=100",
    "--device=cpu",
    "--fp32=1",
    "--kimg=0.016",
    "--metrics=none",
)


def write(path, change=lambda pose: pose, focal=4.2647, count=12):
    labels = [
        Cameras.orbit(0.06 * (i - 6), 0.1, focal=focal).label()[0].double().numpy()
        for i in range(count)
    ]
    with DatasetWriter(path) as writer:
        for i, label in enumerate(labels):
            label[:16] = change(label[:16].reshape(4, 4)).ravel()
            image = np.random.RandomState(i).randint(0, 256, (32, 32, 3), dtype=np.uint8)
            mask = np.zeros((32, 32), np.uint8)
            mask[4:28, 6:26] = 255
            writer.add(image_name(i), image, label, mask)
    return path


def test_errors_are_raised_and_warnings_returned(tmp_path):
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    with pytest.raises(UserError, match="opengl-axes: 12 cameras .*data.check=false") as caught:
        check_at_start(ImageDataset(write(tmp_path / "gl.zip", lambda pose: pose @ flip)))
    assert "\n" not in str(caught.value) and caught.value.args[0].endswith(".")
    warnings = check_at_start(ImageDataset(write(tmp_path / "diag.zip", focal=3.0143), mirror=True))
    assert len(warnings) == 1 and warnings[0].startswith("warning: focal-diagonal: 12 cameras")
    assert check_at_start(ImageDataset(write(tmp_path / "a.zip"))) == []


def test_training_stops_at_wrong_cameras_unless_told_otherwise(tmp_path):
    data = write(tmp_path / "w2c.zip", np.linalg.inv)
    arguments = [f"--data={data}", f"--outdir={tmp_path / 'runs'}", *TINY]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1 and "Remedy: store its inverse" in refused.output
    assert not (tmp_path / "runs").exists()
    trained = CliRunner().invoke(main, [*arguments, "--set=data.check=false", "--kimg=0.008"])
    assert trained.exit_code == 0 and "Done" in trained.output, trained.output


def test_training_says_how_long_it_waited_for_data(tmp_path, monkeypatch):
    data = write(tmp_path / "diag.zip", focal=3.0143)

    class Slow(BatchLoader):
        def _make(self, indices):
            time.sleep(0.3)
            return super()._make(indices)

    monkeypatch.setattr("gghead.training.gan.run.BatchLoader", Slow)
    result = CliRunner().invoke(
        main, [f"--data={data}", f"--outdir={tmp_path / 'runs'}", "--workers=1", *TINY]
    )
    assert result.exit_code == 0, result.output
    assert result.output.count("warning: focal-diagonal") == 1
    assert "of the time no images were ready" in result.output
    (stats,) = (tmp_path / "runs").glob("*/stats.jsonl")
    ticks = [json.loads(line) for line in stats.read_text().splitlines()]
    assert len(ticks) == 2
    for tick in ticks:
        seconds = tick["Timing/sec_per_kimg"]["mean"] * 0.008
        assert 0.1 < tick["Timing/data_wait_share"]["mean"] < 1
        assert tick["Timing/data_wait"]["mean"] == pytest.approx(
            tick["Timing/data_wait_share"]["mean"] * seconds
        )
