"""Training and judging expressions: triplets, exact resume, learning, the commands end to end,
broken input."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.capture_zip import NAMES, write_captures
from helpers.small_expression import expression
from helpers.small_reconstructor import small_reconstructor
from helpers.spoiled import check_one_bad_update
from PIL import Image

import gghead
from gghead import checkpoints
from gghead import latent as latents
from gghead.cli.animate import main as animate_main
from gghead.template.sliders import mirror_name
from gghead.torch_utils import config as config_json
from gghead.torch_utils import progress
from gghead.torch_utils.errors import UserError
from gghead.training.cli.score_expression import main as score_main
from gghead.training.cli.train_expression import main
from gghead.training.encoder.data import read_captures
from gghead.training.expression.config import PRESETS, ExpressionDataConfig, check
from gghead.training.expression.data import Triplets, pairs_of
from gghead.training.expression.score import means, score, split_cameras
from gghead.training.expression.trainer import ExpressionTrainer

SMALL = {
    "model": {"width": 16, "layers": 1, "heads": 2, "mlp_ratio": 1.0, "tokens": 2},
    "batch": 2,
    "warmup": 2,
    "ema_steps": 5.0,
    "data": {"views": 2, "subsets": 2, "targets": 2},
    "steps": 12,
    "tick": 3,
    "loss": {"images_from": 1, "latent": 1.0},
    "snapshot_ticks": 2,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_captures(tmp_path_factory.mktemp("captures") / "balls.zip", subjects=4)


@pytest.fixture(scope="module")
def captures(data):
    return read_captures(str(data))


@pytest.fixture(scope="module")
def network():
    return small_reconstructor()


@pytest.fixture(scope="module")
def network_file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "reconstructor-000001.safetensors"
    checkpoints.save(network, path)
    return path


def triplets(captures, network, **changes):
    return Triplets(captures, ExpressionDataConfig(**{**SMALL["data"], **changes}), 24, network, 0)


def config(**changes):
    return config_json.replace(config_json.replace(PRESETS["tiny"], SMALL), changes)


# ------------------------------------------------------------------------ triplets
def test_pairs_are_neutral_and_expression_of_one_subject(captures):
    pairs = pairs_of(captures)
    assert [pair.subject for pair in pairs] == ["000", "001", "002", "003"]
    for pair in pairs:
        assert {captures.moments[captures.moment[frame]] for frame in pair.neutral} == {"0"}
        assert {captures.moments[captures.moment[frame]] for frame in pair.expression} == {"1"}
        # 0.1 of the second coefficient is there at rest, too
        assert pair.table.tolist() == [0.5, 0.0]


def test_batches_follow_from_seed_and_step(captures, network):
    first, again = (triplets(captures, network).batch(3, 5) for _ in range(2))
    other = triplets(captures, network).batch(3, 6)
    for name in ("ws", "z", "wanted_ws", "wanted_z", "table", "target", "alpha"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    assert not torch.equal(first.target, other.target)
    assert first.target.shape == (3, 2, 3, 24, 24) and first.cameras.shape == (3, 2)
    uncached = triplets(captures, network, cache_mb=0).batch(3, 5)
    assert torch.equal(first.z, uncached.z)


def test_latents_are_those_of_the_reconstructor(captures, network):
    source = triplets(captures, network, mirror=False)
    pair = source.pairs[2]
    batch = source.assemble([(pair, False, 1, pair.expression[:2])])
    chosen = []
    for z, frames in ((batch.z, pair.neutral), (batch.wanted_z, pair.expression)):
        names = [
            captures.camera_names[captures.camera[frame]] for frame in source.inputs(frames, 1)
        ]
        chosen.append(names)
        views = captures.resize(24).views(
            "002", captures.moments[captures.moment[frames[0]]], names
        )
        latent = network.encode(views.over_white()[None], views.cameras.reshape(1, -1))
        # half precision
        torch.testing.assert_close(z, latent.features(network.generator), atol=2e-3, rtol=2e-3)
    assert chosen[0] == chosen[1]


def test_mirrored_triplets_exchange_left_and_right(captures, network):
    assert [
        mirror_name(name) for name in ("eyeBlink_L", "eyeBlinkRight", "jawOpen", "jawLeft")
    ] == [
        "eyeBlink_R",
        "eyeBlinkLeft",
        "jawOpen",
        "jawRight",
    ]
    sided = write_and_read(captures, ("smile_L", "smile_R"))
    source = triplets(sided, network)
    pair = source.pairs[0]
    plain, flipped = (
        source.assemble([(pair, flip, 0, pair.expression[:1])]) for flip in (False, True)
    )
    assert flipped.table.tolist() == [plain.table[0].flip(0).tolist()]
    assert torch.equal(flipped.target, plain.target.flip(-1))
    torch.testing.assert_close(flipped.cameras.label(), plain.cameras.mirror().label())
    assert not triplets(write_and_read(captures, ("smile_L", "other")), network).mirrors


def write_and_read(captures, names):
    from dataclasses import replace

    return replace(captures, coefficient_names=names)


# ------------------------------------------------------------------------ training
def test_steps_learn_and_leave_the_reconstructor_alone(captures, network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trainer = ExpressionTrainer(
        config(rate=1e-2, steps=120, batch=4, loss={"latent": 1.0, "images_from": 0}),
        triplets(captures, network, mirror=False, subsets=1),
        network,
    )
    batch = trainer.triplets.batch(4, 0)

    def terms():
        with torch.no_grad():
            return {
                name: float(value) for name, value in trainer.terms(trainer.model, batch).items()
            }

    start = terms()
    for name, now, wanted, unit in (
        ("z", batch.z, batch.wanted_z, trainer.units[0]),
        ("styles", batch.ws, batch.wanted_ws, trainer.units[1]),
    ):
        assert start[name] == pytest.approx(float((wanted - now).square().mean()) / unit, rel=1e-4)
    assert start["latent"] == pytest.approx(start["z"] + 0.1 * start["styles"], rel=1e-5)
    for _ in range(80):
        trainer.step()
    trainer.model.eval()
    end = terms()
    assert end["latent"] < 0.7 * start["latent"], (start, end)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert trainer.ema.coefficient_max.tolist() == [0.5, 0.0]


def test_a_bad_update_is_counted_and_made_harmless(captures, network):
    trainer = ExpressionTrainer(config(), triplets(captures, network), network)
    trainer.step()
    check_one_bad_update(trainer, trainer.model.network.basis)


def test_resuming_continues_bit_for_bit(captures, network):
    def trainer():
        return ExpressionTrainer(config(), triplets(captures, network), network)

    whole, part = trainer(), trainer()
    for _ in range(4):
        whole.step()
    for _ in range(2):
        part.step()
    resumed = trainer()
    resumed.load_state_dict(part.state_dict())
    for _ in range(2):
        resumed.step()
    for one, other in ((whole.model, resumed.model), (whole.ema, resumed.ema)):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
    assert whole.stats.state_dict() == resumed.stats.state_dict()


def test_command_trains_resumes_animates_and_scores(
    data, network, network_file, tmp_path, monkeypatch
):
    monkeypatch.setitem(PRESETS, "tiny", config())
    common = [f"--network={network_file}", f"--data={data}", "--device=cpu"]
    result = CliRunner().invoke(
        main, [*common, "--holdout=003", "--steps=6", f"--outdir={tmp_path}", "--precision=fp32"]
    )
    assert result.exit_code == 0, result.output
    assert (
        "3 triplets, 2 coefficients; held out: 003" in result.output
        and "held-out subjects: z" in result.output
    )
    run = next(tmp_path.glob("00000-expression-tiny-balls"))
    again = CliRunner().invoke(main, [f"--resume={run}", "--steps=9"])
    assert again.exit_code == 0 and (run / "expression-000009.safetensors").is_file(), again.output
    for option, sentence in (
        ("--width=8", "leave out --width"),
        ("--steps=0", "--steps must be at least 1"),
    ):
        bad = CliRunner().invoke(main, [f"--resume={run}", option])
        assert bad.exit_code != 0 and sentence in bad.output
    moved = gghead.load(run, kind="expression")
    assert moved.config.coefficient_names == NAMES

    scores = CliRunner().invoke(
        score_main,
        [
            *common,
            "--subjects=003",
            f"--motion={run}",
            "--views=2",
            f"--outdir={tmp_path / 'scores'}",
        ],
    )
    # of the small network
    assert scores.exit_code == 1 and "template 'sphere' has no blendshapes" in scores.output


def test_a_score_that_fails_shows_no_line_any_more(captures):
    """Also while somebody keeps the error, and with it the frames that it came through."""
    with pytest.raises(UserError) as kept:
        score(captures, small_reconstructor(generator={"template": "head"}), views=99, size=24)
    assert not progress._stack, kept.value


def test_scores_are_what_they_say(captures, tmp_path):
    network = small_reconstructor(generator={"template": "head"})
    moving = expression(network.generator, coefficient_names=NAMES)
    trials = score(captures.select(subjects=["000", "002"]), network, moving, views=2, size=24)
    assert [trial.record["subject"] for trial in trials] == ["000", "002"]
    record, result = trials[0].record, means(trials)
    assert len(record["inputs"]) == 2 and len(record["cameras"]) == 3
    assert not set(record["inputs"]) & set(record["cameras"])
    assert set(result) == {"neutral", "blendshapes", "transformer", "encoded"}
    for method, values in result.items():
        assert values["psnr"] == pytest.approx(
            np.mean([trial.record[method]["psnr"] for trial in trials])
        )
    # The neutral head, by hand.
    small = captures.resize(24)
    views = small.views("000", "0", record["inputs"])
    head = network.encode(views.over_white()[None], views.cameras.reshape(1, -1)).gaussians(
        network.generator
    )
    truth = small.views("000", "1", record["cameras"])
    shown = (
        gghead.render(head, truth.cameras.reshape(1, -1), 24, background=1.0).color[0].clamp(0, 1)
    )
    mask = truth.alpha.float() / 255
    wanted = truth.over_white()
    errors = ((shown - wanted).square().mean(1, keepdim=True) * mask).flatten(1).sum(
        1
    ) / mask.flatten(1).sum(1)
    assert record["neutral"]["psnr"] == pytest.approx(
        float((-10 * errors.log10()).mean()), abs=1e-3
    )
    assert record["transformer"]["psnr"] != record["neutral"]["psnr"]


def test_score_command_writes_a_report_and_a_sheet(data, tmp_path):
    network = small_reconstructor(generator={"template": "head"})
    file = tmp_path / "reconstructor-000001.safetensors"
    checkpoints.save(network, file)
    arguments = [
        f"--network={file}",
        f"--data={data}",
        "--subjects=000-001",
        "--views=3",
        "--device=cpu",
    ]
    result = CliRunner().invoke(score_main, [*arguments, f"--outdir={tmp_path / 'scores'}"])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "scores/scores.json").read_text())
    assert (
        set(report["results"]) == {"neutral", "blendshapes", "encoded"}
        and len(report["trials"]) == 2
    )
    assert f"{report['results']['neutral']['psnr']:.2f}" in result.output
    assert np.asarray(Image.open(tmp_path / "scores/sheet.png")).shape[0] > 2 * 24


def test_latent_files_are_animated_by_a_transformer(network, network_file, captures, tmp_path):
    moving = expression(network.generator, coefficient_names=NAMES)
    checkpoints.save(moving, tmp_path / "expression-000001.safetensors")
    views = captures.resize(24).views("000", "0")
    latent = network.encode(views.rgb[None].float() / 255, views.cameras.reshape(1, -1))
    latents.save(tmp_path / "latent-encoder.safetensors", latent, network.generator)
    out = tmp_path / "p.png"
    arguments = [
        f"--network={network_file}",
        f"--latents={tmp_path / 'latent-encoder.safetensors'}",
        f"--motion={tmp_path / 'expression-000001.safetensors'}",
        f"--output={out}",
    ]
    result = CliRunner().invoke(animate_main, [*arguments, "--size=24", "--weights=jawOpen=1"])
    assert result.exit_code == 0, result.output
    assert np.asarray(Image.open(out)).shape == (24, 48, 3)
    arguments.append("--overwrite")
    wrong = CliRunner().invoke(animate_main, [*arguments, "--weights=jawOpn=1"])
    assert (
        wrong.exit_code == 1
        and "transformer has no shape for; did you mean 'jawOpen'" in wrong.output
    )
    foreign = CliRunner().invoke(
        animate_main, ["--network=demo", "--seeds=1", *arguments[2:], "--weights=jawOpen=1"]
    )
    assert foreign.exit_code == 1 and "was trained for another network" in foreign.output


# ------------------------------------------------------------------------ sentences
def test_broken_input_is_a_sentence(captures, network, data, network_file, tmp_path):
    for changes, sentence in (
        ({"data": {"path": ""}}, "data.path is missing"),
        ({}, "^network is missing"),
        ({"network": "x", "batch": 0}, "must be at least 1"),
    ):
        with pytest.raises(UserError, match=sentence):
            check(config(**{"data": {"path": "x"}, **changes}))
    with pytest.raises(UserError, match="no subject left"):
        triplets(captures, network, holdout=("000", "001", "002", "003"))
    with pytest.raises(UserError, match="'009'"):
        triplets(captures, network, holdout=("009",))
    with pytest.raises(UserError, match="No subject of .* was seen both with a neutral face"):
        pairs_of(captures.select(expressions=["1"]))

    def without(content):
        for frame in content["frames"]:
            del frame["expression"]
        del content["expression_names"]

    mute = read_captures(str(write_captures(tmp_path / "mute.zip", subjects=1, change=without)))
    with pytest.raises(UserError, match="has no expression coefficients"):
        pairs_of(mute)
    with pytest.raises(UserError, match="was seen by 5 cameras, so `views=5` leaves none"):
        split_cameras(list("abcde"), 5, "000")
    wrong = CliRunner().invoke(
        main, ["--network=demo", f"--data={data}", "--device=cpu", f"--outdir={tmp_path}"]
    )
    assert wrong.exit_code == 1 and "but a reconstructor from views is needed" in wrong.output
