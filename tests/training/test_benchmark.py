"""scripts/benchmark.py: rows for what was asked, floors, ratios, reports."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch
from click.testing import CliRunner
from helpers.places import ROOT
from helpers.small_network import small_network
from helpers.small_reconstructor import small_reconstructor

from gghead import checkpoints
from gghead.models.avatar import Avatar
from gghead.models.avatar_config import AvatarConfig
from gghead.rendering import native_backend, registry
from gghead.torch_utils import governor
from gghead.training.benchmarks import beside, reading
from gghead.training.benchmarks.common import interleaved_medians
from gghead.training.cli.benchmark import main

SCRIPT = ROOT / "scripts" / "benchmark.py"


def test_raster_writes_a_row_for_every_scene_and_backend(tmp_path):
    path = tmp_path / "raster.json"
    options = [
        "--gaussians=20,30",
        "--size=8",
        "--images=2",
        "--channels=3",
        "--backends=torch",
        "--repeats=1",
        f"--json={path}",
    ]
    result = CliRunner().invoke(main, ["raster", *options])
    assert result.exit_code == 0, result.output
    report = json.loads(path.read_text())
    assert report["machine"]["threads"] >= 1 and "torch" in report["machine"]
    assert [(row["gaussians"], row["backend"]) for row in report["rows"]] == [
        (20, "torch"),
        (30, "torch"),
    ]
    assert all(0 < row["forward_ms"] and row["ratio_to_fastest"] == 1 for row in report["rows"])


def test_raster_refuses_an_unknown_backend_in_a_sentence():
    result = CliRunner().invoke(main, ["raster", "--backends=vulkan"])
    assert result.exit_code == 1 and "no rasterizer 'vulkan'" in result.output


@pytest.mark.parametrize("name", ["raster", "train", "sample", "encode"])
def test_a_device_that_does_not_work_here_is_refused_in_a_sentence(name):
    result = CliRunner().invoke(main, [name, "--device=nonsense"])
    assert result.exit_code == 1 and "--device=nonsense does not work here" in result.output


def test_work_is_timed_on_a_quiet_machine_and_beside_others_with_three_numbers_of_threads(
    monkeypatch, capsys
):
    before, used, running = torch.get_num_threads(), [], []
    monkeypatch.setattr(beside, "_SETTLE", 0.05)

    @contextmanager
    def busy(count):
        running.append(count)
        yield

    monkeypatch.setattr(beside, "busy_processes", busy)
    torch.set_num_threads(2)
    try:
        found = beside.compare_threads(
            lambda: (used.append(torch.get_num_threads()), time.sleep(0.01)), 1, 2
        )
    finally:
        torch.set_num_threads(before)
    assert running == [0, 1] and set(used) == {1, 2} and set(found) == {"quiet", "beside"}
    assert all(set(times) >= {"one", "all", "chosen", "ratio"} for times in found.values())
    assert "goals: 1.05 on a quiet machine" in capsys.readouterr().out


def test_busy_processes_are_busy_and_end():
    before = governor._machine_busy() if sys.platform == "linux" else None
    with beside.busy_processes(1):
        children = multiprocessing.active_children()
        assert len(children) == 1 and children[0].is_alive()
    assert not children[0].is_alive()
    assert before is None or governor._machine_busy() >= before


def test_runs_take_turns():
    order = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    medians = interleaved_medians(runs, 2, torch.device("cpu"))
    assert order == list("ababab") and set(medians) == {"a", "b"}


def test_train_times_steps_and_names_operators(tmp_path, monkeypatch):
    monkeypatch.delenv(registry.ENVIRONMENT_VARIABLE, raising=False)
    path = tmp_path / "train.json"
    options = [
        "--preset=tiny",
        "--batch=4",
        "--steps=1",
        "--warmup=0",
        "--profile=3",
        "--compare",
        f"--json={path}",
    ]
    result = CliRunner().invoke(main, ["train", *options])
    assert result.exit_code == 0, result.output
    assert registry.ENVIRONMENT_VARIABLE not in os.environ
    figures = json.loads(path.read_text())["train"]
    assert figures["plain_over_fast"] > 0 and "times as long" in result.output
    assert (
        figures["sec_per_kimg"] > 0
        and figures["gaussians"] == 4096
        and len(figures["operators"]) == 3
    )
    assert "precision " in result.output and " in bf16 on this processor" in result.output
    wrong = CliRunner().invoke(main, ["train", "--stage=3"])
    assert wrong.exit_code == 1 and "has the stages 0 to 0" in wrong.output


@pytest.mark.skipif(not native_backend.available()[0], reason=native_backend.available()[1])
def test_native_rows_state_their_distance_from_the_floor(tmp_path):
    path = tmp_path / "raster.json"
    options = [
        "--gaussians=500",
        "--size=32",
        "--channels=3,6",
        "--backends=native",
        "--repeats=1",
        "--memory",
        f"--json={path}",
    ]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "raster", *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    three, six = json.loads(path.read_text())["rows"]
    assert three["visits"] == six["visits"] > 500 and three["fma_per_s"] > 0
    # each by its own measured rate, which differs from row to row
    for row, channels in ((three, 3), (six, 6)):
        once, pairs = 500 * (4 * (11 + channels) + 64), row["visits"]
        forward = pairs * (25 + channels) / row["fma_per_s"] + (once + 16 * pairs) / 55e9
        backward = pairs * (77 + 2 * channels) / row["fma_per_s"] + (2 * once + 16 * pairs) / 55e9
        assert row["floor_ms"] == pytest.approx(
            {"forward": 1000 * forward, "backward": 1000 * backward}
        )
    assert 0 <= three["extra_memory_mib"] < 50
    for row in (three, six):  # whether it is above 1 depends on what else the machine does
        stages, floor = row["stages_ms"], row["floor_ms"]
        assert row["x_floor_forward"] == pytest.approx(
            (stages["project"] + stages["composite"]) / floor["forward"]
        )
        assert row["x_floor"] == pytest.approx(
            sum(stages.values()) / (floor["forward"] + floor["backward"])
        )


def test_sampling_is_timed_both_ways(tmp_path):
    path = tmp_path / "sample.json"
    result = CliRunner().invoke(main, ["sample", "--batch=1,2", "--repeats=1", f"--json={path}"])
    assert result.exit_code == 0, result.output
    rows = json.loads(path.read_text())["rows"]
    assert [row["batch"] for row in rows] == [1, 2] and all(
        row["camera_fps"] > row["latent_fps"] > 0 for row in rows
    )


def test_sampling_refuses_a_network_that_is_no_generator(tmp_path):
    path = tmp_path / "avatar.safetensors"
    config = AvatarConfig(width=3, feature_dim=4, hidden=8, sh_degree=1)
    checkpoints.save(Avatar(config, count=2), path)
    result = CliRunner().invoke(main, ["sample", f"--network={path}"])
    assert result.exit_code == 1 and "avatar" in result.output and "needed" in result.output, (
        result.output
    )


def test_reading_is_timed_by_format_and_workers(tmp_path):
    path = tmp_path / "data.json"
    options = [
        "--source-resolution=32",
        "--resolution=16",
        "--images=32",
        "--workers=1,2",
        "--step-ms=1",
        "--repeats=1",
        f"--json={path}",
    ]
    result = CliRunner().invoke(main, ["data", *options])
    assert result.exit_code == 0, result.output
    report = json.loads(path.read_text())
    assert [row["format"] for row in report["rows"]] == list(reading.FORMATS)
    assert all(row["decode_ms"] > 0 for row in report["rows"])
    assert all(set(row["loader_images_per_sec"]) == {"1", "2", "auto"} for row in report["rows"])
    shares = [row["waiting_share"] for row in report["rows"]]
    assert all(set(share) == {"read when needed", "2 threads", "auto"} for share in shares)
    assert all(0 < value < 1 for share in shares for value in share.values())
    sizes = {row["format"]: row["kib"] for row in report["rows"]}
    assert (
        sizes["png level 0"] > sizes["png level 6"] > sizes["jpeg q95"]
        and "torch" in report["machine"]
    )
    wrong = CliRunner().invoke(main, ["data", "--formats=gif"])
    assert wrong.exit_code == 1 and "there is no 'gif'" in wrong.output


def test_encoding_is_timed_by_number_of_views(tmp_path):
    path, network = tmp_path / "encode.json", tmp_path / "reconstructor-000001.safetensors"
    checkpoints.save(small_reconstructor(), network)
    options = ["encode", f"--network={network}", "--views=1,3", "--repeats=1", f"--json={path}"]
    result = CliRunner().invoke(main, [*options, "--memory"])
    assert result.exit_code == 0, result.output
    report = json.loads(path.read_text())
    assert [row["views"] for row in report["rows"]] == [1, 3] and report["size"] == 24
    assert all(row["encode_ms"] > 0 and row["decode_ms"] > 0 for row in report["rows"])
    assert all(0 <= row["extra_memory_mib"] < 200 for row in report["rows"])
    gan = tmp_path / "gan.safetensors"
    checkpoints.save(small_network(), gan)
    wrong = CliRunner().invoke(main, ["encode", f"--network={gan}"])
    assert wrong.exit_code == 1 and "a reconstructor from views is needed" in wrong.output
