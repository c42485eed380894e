"""Variants of an avatar: what they change, that repeating continues, tables, error bars and
images."""

import json

import numpy as np
import pytest
import variants
from click.testing import CliRunner
from compare_avatars import main
from helpers.avatar_sequence import write_sequence
from helpers.weight_files import trusted, write_lite
from PIL import Image
from variant_tables import block_error, pair_differences, table
from variants import variant_config

import gghead
from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError
from gghead.training.avatar.config import ABLATIONS, PRESETS

TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_sequence(tmp_path_factory.mktemp("sequence") / "person")


def compare(data, outdir, *arguments):
    options = [
        f"--data={data}",
        f"--outdir={outdir}",
        "--resolution=24",
        "--steps=3",
        "--device=cpu",
    ]
    return CliRunner().invoke(main, [*options, *map(str, arguments)])


def rows_of(psnr, variant="full", seed=0, iteration=3):
    frames = [{"psnr": value, "ssim": 0.9, "l2": 0.001} for value in psnr]
    return {
        "variant": variant,
        "seed": seed,
        "iteration": iteration,
        "gaussians": 5,
        "seconds": 1.0,
        "frames": frames,
    }


def test_a_variant_changes_one_thing():
    assert variant_config(TINY, "full") == TINY
    for name, changes in ABLATIONS.items():
        assert variant_config(TINY, name) == config_json.replace(TINY, changes) != TINY
    both = variant_config(TINY, "no-mlp+points=70")
    assert both.points == 70 and not both.avatar.mlp and both.avatar.blend
    assert variant_config(TINY, "feature-dim=8").avatar.feature_dim == 8
    assert variant_config(TINY, "perceptual=0.3").loss.perceptual == 0.3
    assert variant_config(TINY, "init-head=a/b.ply").init_head == "a/b.ply"
    moving = variant_config(
        config_json.replace(TINY, {"motion": "features"}), "motion-rate=0.1+motion=blendshapes"
    )
    assert moving.motion == "blendshapes" and moving.rates.motion == 0.1
    with pytest.raises(
        UserError, match="'motion-rate=0.1' has no motion whose rate it could change; add motion="
    ):
        variant_config(config_json.replace(TINY, {"motion": "features"}), "motion-rate=0.1")
    for name, sentence in (
        ("no_mlp", "There is no variant 'no_mlp'; choose from full, no-blending"),
        ("points=many", "'points=many' needs a whole number"),
        ("seed=3", "no variant 'seed=3'"),
    ):
        with pytest.raises(UserError, match=sentence):
            variant_config(TINY, name)


def test_differences_are_paired_and_their_error_is_over_blocks():
    first, second = rows_of([30.0, 31.0]), rows_of([30.5, 30.0])
    np.testing.assert_allclose(pair_differences(second, first), [0.5, -1.0])
    random = np.random.RandomState(0)
    white = random.normal(size=1000)
    assert block_error(white)[1] == pytest.approx(1000**-0.5, rel=0.6)
    # neighbors alike: ten values are known, not a thousand
    slow = np.repeat(random.normal(size=10), 100)
    assert block_error(slow)[1] == pytest.approx(slow[::100].std(ddof=1) / 10**0.5)


def test_the_table_has_means_and_differences():
    rows = [
        rows_of([30.0, 32.0]),
        rows_of([31.0, 31.0], seed=1),
        rows_of([33.0, 34.0], "no-mlp"),
        rows_of([31.0, 32.0], "no-mlp", seed=1),
        rows_of([9.0, 9.0], iteration=1),
    ]
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in table(rows, ["full", "no-mlp"]).split("\n")
    ]
    head, _, full, other = lines
    assert (
        full[head.index("PSNR")] == "31.00" and other[head.index("PSNR")] == "32.50 (+1.50 ± 0.00)"
    )
    assert other[head.index("L2 x 1000")] == "1.00 (+0.00 ± 0.00)" and head.count("mouth") == 0
    assert full[head.index("by seed")] == "" and other[head.index("by seed")] == "+2.50, +0.50"


def test_the_command_trains_what_is_missing_only(data, tmp_path):
    out = tmp_path / "study"
    first = compare(
        data, out, "--variants=full,points=30", "--at=0,2", f"--plot={tmp_path / 'p.png'}"
    )
    assert first.exit_code == 0, first.output
    assert "training points=30, seed 0" in first.output and "| points=30 |" in first.output
    with Image.open(tmp_path / "p.png") as image:
        assert image.size == (560, 360)
    rows = json.loads((out / "variants.json").read_text())["rows"]
    assert [(row["variant"], row["iteration"]) for row in rows] == [
        (name, at) for name in ("full", "points=30") for at in (0, 2, 3)
    ]
    assert all(len(row["frames"]) == 2 for row in rows) and rows[-1]["gaussians"] == 30
    saved = gghead.load(out / "avatar-points=30-0.safetensors", kind="avatar")
    scores = variants.frame_scores(
        saved,
        variants.Frames(variants.split_or_all(variants.read_sequence(str(data), (24, 24)), "test")),
    )
    assert scores == [pytest.approx(frame) for frame in rows[-1]["frames"]]

    before = (out / "avatar-full-0.safetensors").stat().st_mtime_ns
    again = compare(data, out, "--variants=full,points=30,no-mlp", "--at=0,2")
    assert (
        again.exit_code == 0
        and "training no-mlp" in again.output
        and "training full" not in again.output
    )
    assert (out / "avatar-full-0.safetensors").stat().st_mtime_ns == before
    seeds = compare(data, out, "--variants=full", "--at=0,2", "--seeds=0,1")
    assert (
        seeds.exit_code == 0
        and "training full, seed 1" in seeds.output
        and "points=30" not in seeds.output
    )


def test_the_perceptual_loss_is_an_ablation_judged_by_another_network(data, tmp_path):
    nets = [
        f"efficientnet-{kind}:{trusted(write_lite(tmp_path, kind)[1])}"
        for kind in ("lite0", "lite1")
    ]
    options = (
        "--resolution=32",
        "--variants=full,no-perceptual,perceptual=0.0",
        f"--perceptual-net={nets[0]}",
    )
    result = compare(
        data, tmp_path / "out", *options, f"--score-net={nets[1]}", "--perceptual-from=1"
    )
    assert result.exit_code == 0, result.output
    assert (
        "| perceptual |" in result.output
        and "perceptual: EfficientNet-Lite1 features" in result.output
    )
    content = json.loads((tmp_path / "out" / "variants.json").read_text())
    assert content["settings"]["config"]["loss"]["perceptual_from"] == 1
    full, without, weightless = (row["frames"] for row in content["rows"])
    assert without == weightless != full and all(frame["perceptual"] > 0 for frame in full)
    again = compare(data, tmp_path / "out", *options, "--perceptual-from=1")
    assert again.exit_code == 1 and "was made with other settings" in again.output
    # 24 pixels
    small = compare(data, tmp_path / "small", "--variants=full", f"--score-net={nets[1]}")
    assert small.exit_code == 1 and "needs images of at least 32x32" in small.output
    assert not (tmp_path / "small").exists()


def test_numbers_of_coefficients_are_variants(data, tmp_path):
    result = compare(data, tmp_path, "--variants=full,coefficients=1")
    assert result.exit_code == 0 and "coefficients=1" in result.output, result.output
    widths = [
        gghead.load(path, kind="avatar").config.width
        for path in sorted(tmp_path.glob("*.safetensors"))
    ]
    assert sorted(widths) == [1, 3]


def test_options_of_motions_are_variants_that_are_compared_and_shown(tmp_path):
    with pytest.raises(UserError, match="'motion-rate=-1' needs a number"):
        variant_config(TINY, "motion-rate=-1")
    both = variant_config(TINY, "motion=blendshapes+motion-rate=0.01+mirrored-grid=8+sh-every=5")
    assert (both.motion, both.rates.motion, both.avatar.mirrored_grid, both.sh_every) == (
        "blendshapes",
        0.01,
        8,
        5,
    )
    folder = write_sequence(tmp_path / "person")
    points = np.zeros((8, 68, 3), np.float32)
    points[:, 48:68, 1], points[:, 48:68:2, 0] = -0.1, 0.3
    np.savez(folder / "geometry.npz", landmarks68=points)
    options = [
        folder,
        tmp_path / "study",
        "--variants=full,motion=blendshapes",
        f"--closeups={tmp_path / 'look.png'}",
    ]
    result = compare(*options)
    assert result.exit_code == 0, result.output
    line = next(line for line in result.output.split("\n") if line.startswith("| full"))
    assert "side" in result.output and line
    with Image.open(tmp_path / "look.png") as image:  # two test frames; truth and two avatars
        assert image.size[0] > 2 * 144 and image.size[1] > 3 * 144
    for more, sentence in (
        ("--frames=7", "no frame 7 to cut out of; the frames are 0 to 1"),
        ("--region=eyes", "has no eyes to cut out"),
        ("--labels=a", "1 labels were given for 2"),
    ):
        wrong = compare(*options, more)
        assert wrong.exit_code == 1 and sentence in wrong.output and "Traceback" not in wrong.output


def test_wrong_uses_are_a_sentence(data, tmp_path):
    assert compare(data, tmp_path / "a", "--variants=full").exit_code == 0
    for outdir, arguments, sentence in (
        (
            "a",
            ["--variants=full", "--at=1"],
            "was made with other settings; choose another --outdir",
        ),
        ("b", ["--variants=full,full"], "names a variant twice"),
        ("b", ["--variants=full,no-perceptual"], "differs from full only with a network"),
        (
            "b",
            ["--variants=full,perceptual=0.3"],
            "The variant perceptual=0.3 differs from full only with a network",
        ),
        ("b", ["--variants=full,nothing"], "There is no variant 'nothing'"),
    ):
        result = compare(data, tmp_path / outdir, *arguments)
        assert result.exit_code == 1 and sentence in result.output, result.output
    assert not (tmp_path / "b").exists()
    (tmp_path / "a" / "variants.json").write_text("{")
    assert (
        "is no file of compare_avatars.py"
        in compare(data, tmp_path / "a", "--variants=full").output
    )
