"""train.py end to end on the CPU: options, run folder, resuming, and what it says to wrong
input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.places import ROOT
from helpers.small_gan import SMALL, write_dataset
from PIL import Image

import gghead
from gghead.data import BatchLoader
from gghead.data import dataset as dataset_module
from gghead.torch_utils.errors import UserError
from gghead.training.cli.train_gan import main, resolve
from gghead.training.gan.config import PRESETS, Stage
from gghead.training.gan.trainer import Trainer
from gghead.training.run.run_folder import load_state, provenance, read_options


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "faces")


def train(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    outdir = tmp_path_factory.mktemp("runs")
    result = train("--data", data, "--outdir", outdir, "--kimg=0.016", "--metrics=frd4", *SMALL)
    assert result.exit_code == 0, result.output
    (folder,) = outdir.iterdir()
    return folder, result.output


def test_run_folder_has_what_stylegan_users_expect(finished):
    folder, output = finished
    assert folder.name == "00000-tiny-faces-gpus1-batch4-gamma0.2"
    names = {path.name for path in folder.iterdir()}
    for wanted in (
        "training_options.json",
        "log.txt",
        "stats.jsonl",
        "reals.png",
        "fakes_init.png",
        "fakes000000.png",
        "fakes000000_turn.png",
        "network-snapshot-000000.safetensors",
        "training-state-000000.pt",
        "metric-frd4.jsonl",
    ):
        assert wanted in names, wanted
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert "sec/kimg" in output and "preset tiny" in output and "rasterizer" in output
    line = json.loads((folder / "stats.jsonl").read_text().splitlines()[-1])
    for name in (
        "Loss/scores/real",
        "Loss/signs/fake",
        "Loss/G/loss",
        "Loss/D/loss",
        "Progress/kimg",
        "Watchdog/uncovered",
        "Watchdog/scale/q50",
    ):
        assert {"num", "mean", "std"} == set(line[name]), name
    metric = json.loads((folder / "metric-frd4.jsonl").read_text().splitlines()[-1])
    assert {"frd4", "frd4_floor"} <= set(metric["results"]) and metric["snapshot"].endswith(
        ".safetensors"
    )


def test_snapshot_loads_and_records_its_making(finished):
    folder, _ = finished
    model = gghead.load(folder)
    assert model.config.image_size == 32 and model.attributes.num == 256
    assert model.sample(seed=1).means.shape == (1, 256, 3)
    from gghead.checkpoints import latest_snapshot, read_info

    made = read_info(latest_snapshot(folder)).provenance
    assert made["dataset"] == "faces" and made["yaw"] == [-22.9, 22.9]


def test_resumed_run_equals_an_uninterrupted_one(finished, data, tmp_path):
    folder, _ = finished
    half = train("--data", data, "--outdir", tmp_path, "--kimg=0.008", "--metrics=none", *SMALL)
    assert half.exit_code == 0, half.output
    (run,) = tmp_path.iterdir()
    # killed before the state that belongs to this tick was saved
    with (run / "stats.jsonl").open("a") as file:
        file.write(json.dumps({"Progress/kimg": {"num": 1, "mean": 0.012, "std": 0.0}}) + "\n")
    again = train("--resume", run, "--kimg=0.016", "--device=cpu")
    assert again.exit_code == 0, again.output
    counted = [
        json.loads(line)["Progress/kimg"]["mean"]
        for line in (run / "stats.jsonl").read_text().splitlines()
    ]
    assert counted == [0.008, 0.016]
    whole, parts = load_state(folder)["trainer"], load_state(run)["trainer"]
    assert whole["step"] == parts["step"] == 4
    for network in ("G", "D", "G_ema"):
        for key, value in whole[network].items():
            assert torch.equal(value, parts[network][key]), key
    assert read_options(run).kimg == 0.016
    assert "precision fp32: as before" in again.output


def test_a_run_that_was_stopped_within_a_tick_has_the_ticks_of_one_that_was_not(
    data, tmp_path, monkeypatch
):
    step, options = (
        Trainer.step,
        [
            "--data",
            data,
            "--kimg=0.024",
            "--metrics=none",
            *SMALL,
            "--tick=0.012",
        ],
    )
    assert train(*options, "--outdir", tmp_path / "whole").exit_code == 0

    def stop_after_five(self, batch):
        step(self, batch)
        if self.step_index == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stop_after_five)
        assert train(*options, "--outdir", tmp_path / "parts").exit_code == 130
    runs = [next((tmp_path / name).iterdir()) for name in ("whole", "parts")]
    state = load_state(runs[1])
    assert state["trainer"]["step"] == 5 and state["seconds"] > 0
    assert train("--resume", runs[1], "--device=cpu").exit_code == 0
    lines = [
        [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
        for run in runs
    ]
    whole, parts = (
        [
            {
                key: value
                for key, value in line.items()
                if not key.startswith(("Timing", "Resources", "time"))
            }
            for line in found
        ]
        for found in lines
    )
    assert [line["Loss/scores/real"]["num"] for line in whole] == [12, 12] and parts == whole


def test_one_loader_reads_on_over_ticks_and_snapshots(data, tmp_path, monkeypatch):
    """A loader for each tick would throw away what was read ahead, and everybody would wait at its
    beginning."""
    made, closed, before = [], [], threading.active_count()

    class Spied(BatchLoader):
        def __init__(self, *arguments, **options):
            made.append(options["workers"])
            super().__init__(*arguments, **options)

        def close(self):
            closed.append(self.position)
            super().close()

    monkeypatch.setattr("gghead.training.gan.run.BatchLoader", Spied)
    options = ["--data", data, "--kimg=0.012", "--metrics=none", *SMALL, "--tick=0.004", "--snap=1"]
    result = train(*options, "--outdir", tmp_path)
    assert result.exit_code == 0, result.output
    assert made == [None] and closed == [12] and threading.active_count() == before
    (run,) = tmp_path.iterdir()
    again = train("--resume", run, "--kimg=0.016", "--workers=1", "--device=cpu")
    assert again.exit_code == 0 and made == [None, 1] and closed == [12, 16], again.output


@pytest.mark.parametrize("more, times", [([], 1), (["--set=data.mirror=true"], 2)])
def test_a_run_opens_its_images_once_for_all_its_sizes(data, tmp_path, monkeypatch, more, times):
    opened, read = [], dataset_module.open_shards
    monkeypatch.setattr(
        dataset_module, "open_shards", lambda *given: opened.append(given) or read(*given)
    )
    sizes = []

    class Spied(BatchLoader):
        def __init__(self, dataset, *arguments, **options):
            sizes.append(dataset.resolution)
            super().__init__(dataset, *arguments, **options)

    monkeypatch.setattr("gghead.training.gan.run.BatchLoader", Spied)
    stages = (Stage(0, 16, 8), Stage(0.008, 32, 8))
    monkeypatch.setitem(PRESETS, "tiny", replace(PRESETS["tiny"], stages=stages))
    small = [option for option in SMALL if not option.startswith("--set=stages")]
    options = [
        "--data",
        data,
        "--outdir",
        tmp_path,
        "--kimg=0.016",
        "--metrics=none",
        *small,
        *more,
    ]
    result = train(*options)
    assert result.exit_code == 0, result.output
    assert len(opened) == times and sizes == [16, 32]


def test_a_machine_without_git_saves_snapshots_too(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance("tiny", "faces.zip")["git"] == "unknown"


def test_init_starts_from_weights(finished, data, tmp_path):
    folder, _ = finished
    result = train("--data", data, "--outdir", tmp_path, "--kimg=0.004", "--init", folder, *SMALL)
    assert result.exit_code == 0, result.output
    other = [a for a in SMALL if "cmax" not in a] + ["--cmax=4"]
    result = train("--data", data, "--outdir", tmp_path, "--kimg=0.004", "--init", folder, *other)
    assert result.exit_code != 0 and "another architecture (it differs in cmax)" in result.output


def test_a_plain_backdrop_is_said_and_leaves_no_rim_in_the_reals(tmp_path):
    write_dataset(tmp_path / "heads", masks=False)
    (tmp_path / "heads" / "masks").mkdir()
    content = json.loads((tmp_path / "heads" / "dataset.json").read_text())
    alpha = np.clip(12.5 - np.hypot(*(np.mgrid[:32, :32] - 15.5)), 0, 1)[..., None]
    images = []
    for index, (name, _) in enumerate(content["labels"]):
        images.append(
            np.rint(40 * (1 + index % 3) * alpha + 255 * (1 - alpha)).astype(np.uint8).repeat(3, -1)
        )
        Image.fromarray(images[-1]).save(tmp_path / "heads" / name)
        Image.fromarray(np.rint(255 * alpha[..., 0]).astype(np.uint8)).save(
            tmp_path / "heads" / "masks" / name
        )
        content.setdefault("masks", {})[name] = f"masks/{name}"
    (tmp_path / "heads" / "dataset.json").write_text(json.dumps(content))
    result = train(
        "--data",
        tmp_path / "heads",
        "--outdir",
        tmp_path / "runs",
        "--kimg=0.004",
        "--background=white",
        *SMALL,
    )
    assert result.exit_code == 0, result.output
    assert "all images have the backdrop 255 255 255, which is taken off exactly" in result.output
    (folder,) = (tmp_path / "runs").iterdir()
    reals = np.asarray(Image.open(folder / "reals.png")).astype(int)
    tiles = [
        reals[y : y + 32, x : x + 32]
        for y in range(0, reals.shape[0], 32)
        for x in range(0, reals.shape[1], 32)
    ]
    assert all(min(np.abs(tile - image).max() for image in images) <= 1 for tile in tiles)


def test_dry_run_prints_the_config_and_writes_nothing(data, tmp_path):
    result = train("--data", data, "--outdir", tmp_path / "runs", "-n", "--lambda_tv=3", *SMALL)
    assert result.exit_code == 0, result.output
    config = json.loads(result.output[result.output.index("{") :])
    assert config["stages"][0]["lambda_tv"] == 3 and config["batch"] == 4
    assert not (tmp_path / "runs").exists()


def options(**given):
    names = {p.name: None for p in main.params} | {"set": (), "data": "x.zip"}
    return names | given


def test_choices_follow_data_and_machine_with_reasons():
    cpu = torch.device("cpu")
    config, reasons = resolve(options(), 512, 854, True, cpu)
    assert (
        config.preset == "tiny"
        and config.data.background == "random"
        and any("preset tiny" in r for r in reasons)
    )
    config, reasons = resolve(options(), 64, 854, False, cpu)
    assert config.generator.background.kind == "gaussians" and config.data.background == "image"
    config, _ = resolve(options(preset="ffhq512"), 512, 70000, True, cpu)
    assert config.augment.mode == "noaug" and config.loss.r1_gamma == 1.0
    config, reasons = resolve(options(preset="ffhq512"), 512, 500, True, cpu)
    assert config.augment.mode == "ada" and any("only 500 images" in r for r in reasons)
    assert resolve(options(gamma=7.0, fp32=True), 64, 900, True, cpu)[0].loss.r1_gamma == 7.0
    config, reasons = resolve(
        options(set=("augment.mode=noaug", "precision=bf16", "data.background=image")),
        64,
        854,
        False,
        cpu,
    )
    assert config.augment.mode == "noaug" and config.precision == "bf16"
    assert "precision bf16: --set was given" in reasons
    assert resolve(options(set=("precision=fp32",)), 64, 854, True, cpu)[0].precision == "fp32"
    with pytest.raises(UserError, match="needs masks, but the data have none"):
        resolve(options(set=("data.background=white",)), 64, 854, False, cpu)
    with pytest.raises(UserError, match="trains at 512 pixels, but the images have 64"):
        resolve(options(preset="ffhq512"), 64, 500, True, cpu)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "--data is missing"),
        (["--data=nowhere.zip"], "nowhere.zip"),
        (["--data={data}", "--batch=0"], "--batch"),
        (["--data={data}", "--set=loss.r1_gama=1"], "did you mean 'r1_gamma'"),
        (["--data={data}", "--set=oops"], "must have the form key=value"),
        (["--data={data}", "--preset=ffhq256"], "choose a smaller preset"),
        (["--data={data}", "--device=cuda"], "--device=cuda does not work here"),
        (["--data={data}", "--masks=none", "--background=white", *SMALL], "needs masks"),
        (["--resume=nowhere"], "is no training run"),
        (["--resume={data}", "--batch=8"], "leave out --batch"),
        # a tick of no image never ended
        (["--data={data}", *SMALL, "--tick=0.0005"], "--tick must be at least 0.001"),
        (["--data={data}", *SMALL, "--glr=-1"], "--glr must not be negative"),
        (["--data={data}", *SMALL, "--set=loss.r1_interval=0"], "loss.r1_interval counts steps"),
        (["--data={data}", *SMALL, "--p=0.3"], "--p does nothing without --aug=fixed"),
        (
            ["--data={data}", *SMALL, "--aug=noaug", "--target=0.5"],
            "--target does nothing without --aug=ada",
        ),
        (
            ["--data={data}", *SMALL, "--gpc-reg-prob=0.5"],
            "--gpc-reg-prob does nothing without --gen-pose-cond=1",
        ),
        (["--resume={data}", "--gamma=0"], "leave out --gamma"),
        (["--resume={data}", "--mirror=0"], "leave out --mirror"),
        (["--data={data}", "--init=nowhere.safetensors", *SMALL], "does not exist"),
    ],
)
def test_wrong_options_are_one_sentence(data, arguments, words, tmp_path):
    if "--device=cuda" in arguments and torch.cuda.is_available():
        pytest.skip("a GPU is here")
    result = train(*[a.format(data=data) for a in arguments], "--outdir", tmp_path)
    assert result.exit_code != 0 and words in result.output, result.output
    assert "Traceback" not in result.output


def test_ctrl_c_leaves_a_run_that_resumes(data, tmp_path):
    command = [
        sys.executable,
        "train.py",
        f"--data={data}",
        f"--outdir={tmp_path}",
        "--kimg=1000",
        *SMALL,
        "--snap=1000",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.startswith("tick 2"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130 and re.search(
        r"Continue with: \S*python\S* train.py --resume=", rest
    )
    (run,) = tmp_path.iterdir()
    step = load_state(run)["trainer"]["step"]
    result = train("--resume", run, f"--kimg={(step * 4 + 4) / 1000}", "--device=cpu")
    assert result.exit_code == 0, result.output
    assert load_state(run)["trainer"]["step"] == step + 1


def test_truncated_state_falls_back_to_the_one_before(finished, tmp_path):
    import shutil

    folder, _ = finished
    run = shutil.copytree(folder, tmp_path / "run")
    good = next(run.glob("training-state-*.pt"))
    bad = run / "training-state-999999.pt"
    bad.write_bytes(good.read_bytes()[:100])
    assert load_state(run)["trainer"]["step"] == 4
    good.unlink()
    with pytest.raises(UserError, match="holds no readable training-state"):
        load_state(run)


def test_two_processes_under_torchrun(data, tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "train.py",
        f"--data={data}",
        f"--outdir={tmp_path}",
        "--kimg=0.016",
        "--metrics=frd8",
        *SMALL,
        "--batch=8",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    begin = time.time()
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (run,) = tmp_path.iterdir()
    assert "gpus2" in run.name and load_state(run)["trainer"]["step"] == 2, time.time() - begin
    records = [json.loads(line) for line in (run / "metric-frd8.jsonl").read_text().splitlines()]
    assert records and all(
        record["num_gpus"] == 2 and record["results"]["frd8"] > 0 for record in records
    )


# TorchScript is old, and so are everyone's Inception files
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fid_is_measured_in_training_with_the_network_of_feature_net(data, tmp_path):
    class Mean(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.float().mean((2, 3))

    torch.jit.script(Mean()).save(str(tmp_path / "inception.pt"))
    options = [
        "--data",
        data,
        "--outdir",
        tmp_path / "runs",
        "--kimg=0.004",
        "--metrics=fid8_full",
        "--mirror=1",
        *SMALL,
    ]
    refused = train(*options)
    assert (
        refused.exit_code == 1
        and "needs --feature-net=FILE" in refused.output
        and not (tmp_path / "runs").exists()
    )
    result = train(*options, "--feature-net", tmp_path / "inception.pt")
    assert result.exit_code == 0, result.output
    (run,) = (tmp_path / "runs").iterdir()
    assert read_options(run).feature_net == str(tmp_path / "inception.pt")
    values = json.loads((run / "metric-fid8_full.jsonl").read_text())["results"]
    assert values["fid8_full"] > 0 and values["fid8_full_floor"] >= 0
    # A resumed run may measure something else.
    again = train("--resume", run, "--kimg=0.008", "--metrics=fid4", "--device=cpu")
    assert again.exit_code == 0 and (run / "metric-fid4.jsonl").is_file(), again.output


def test_full_disk_at_a_snapshot_does_not_end_the_run(data, tmp_path, monkeypatch):
    """The first state and image cannot be written; the run says so, trains on, and writes the
    next ones."""
    from gghead.torch_utils import seal
    from gghead.training.gan import images

    write, refused = seal.write_atomically, []

    def full_once(path, *rest):
        if path.suffix not in {file.suffix for file in refused} and (
            path.suffix == ".pt" or "fakes0" in path.name
        ):
            refused.append(path)
            raise UserError(f"{path} could not be written (No space left on device).")
        write(path, *rest)

    for module in (seal, images):
        monkeypatch.setattr(module, "write_atomically", full_once)
    result = train("--data", data, "--outdir", tmp_path, "--kimg=0.016", "--metrics=none", *SMALL)
    assert result.exit_code == 0 and "No space left on device" in result.output
    (run,) = tmp_path.iterdir()
    assert (
        len(refused) == 2
        and (run / "fakes000000.png").exists()
        and load_state(run)["trainer"]["step"] == 4
    )


@pytest.mark.parametrize("kind", ["weight", "images"])
def test_a_diverged_run_ends_with_an_error_and_keeps_its_good_state(
    data, tmp_path, monkeypatch, kind
):
    """It wrote its broken weights over the good ones, said Done and ended with status 0."""
    step, reals = Trainer.step, Trainer._reals

    def spoil(self, batch):
        if self.step_index == 3 and kind == "weight":
            with torch.no_grad():
                next(self.D.parameters())[0] = float("nan")
        step(self, batch)

    def spoilt(self, batch):
        images, labels = reals(self, batch)
        return (images * float("nan") if self.step_index >= 3 else images), labels

    monkeypatch.setattr(Trainer, "step", spoil)
    if kind == "images":
        monkeypatch.setattr(Trainer, "_reals", spoilt)
    result = train("--data", data, "--outdir", tmp_path, "--kimg=1", "--metrics=none", *SMALL)
    assert (
        result.exit_code == 1 and "Done" not in result.output and "Traceback" not in result.output
    )
    (run,) = tmp_path.iterdir()
    assert f"The last good state is {run}/training-state-000000.pt" in result.output
    assert (
        f"python train.py --resume={run}" in result.output
        and "--set=optimizer.g_lr" in result.output
    )
    state = load_state(run)["trainer"]
    if kind == "weight":
        assert "The run has diverged: D." in result.output and state["step"] == 2
    else:  # the gradients were made harmless, so that states in between are sound
        assert "10 updates of the discriminator in a row" in result.output and state["step"] == 12
        assert "health: 1 of " in result.output
    assert all(torch.isfinite(value).all() for value in gghead.load(run).state_dict().values())


# tensorboard reads its own error again from a thread, besides telling it to the writer, which says
# it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_run_whose_folder_is_gone_ends_with_an_error(data, tmp_path, monkeypatch):
    step = Trainer.step

    def lose(self, batch):
        step(self, batch)
        if self.step_index == 3:
            shutil.rmtree(next(tmp_path.iterdir()))

    monkeypatch.setattr(Trainer, "step", lose)
    result = train("--data", data, "--outdir", tmp_path, "--kimg=0.016", "--metrics=none", *SMALL)
    assert (
        result.exit_code == 1 and "Done" not in result.output and "Traceback" not in result.output
    )
    assert "but what it had learned could not be saved: " in result.output


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_stop_that_cannot_save_does_not_offer_to_continue(data, tmp_path, monkeypatch):
    step = Trainer.step

    def lose(self, batch):
        step(self, batch)
        if self.step_index == 1:
            shutil.rmtree(next(tmp_path.iterdir()))
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "step", lose)
    result = train("--data", data, "--outdir", tmp_path, "--kimg=0.016", "--metrics=none", *SMALL)
    assert result.exit_code == 1 and "Continue with" not in result.output
    assert "No state had been written before" in result.output
