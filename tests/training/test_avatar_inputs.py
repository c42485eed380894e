"""What an avatar takes of a sequence (some of its coefficients, tracked parameters) and the mesh
that it starts on."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.avatar_sequence import write_sequence

import gghead
from gghead.animation.drive import read_drive
from gghead.animation.frames import read_sequence
from gghead.cli.animate import main as animate
from gghead.data.frames_zip import write_archive
from gghead.torch_utils.errors import UserError
from gghead.training.cli.score_avatar import main as score
from gghead.training.cli.train_avatar import main as train

SMALL = [
    "--preset=tiny",
    "--resolution=24",
    "--points=40",
    "--feature-dim=4",
    "--tick=4",
    "--snap=1",
    "--device=cpu",
    "--steps=2",
]


def call(command, *options):
    return CliRunner().invoke(command, [str(option) for option in options])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight frames with three coefficients and a jaw."""
    sequence = read_sequence(str(write_sequence(tmp_path_factory.mktemp("sequence") / "person")))
    jaw = torch.linspace(0, 1, 24).reshape(8, 3)
    path = tmp_path_factory.mktemp("tracked") / "person.zip"
    write_archive(dataclasses.replace(sequence, extras={"jaw": jaw}), path)
    return path


def quad(path, half, z):
    """Two triangles that face the camera, with texture coordinates."""
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    lines = [f"v {half * x} {half * y} {z}" for x, y in corners] + [
        f"vt {x > 0:d} {y > 0:d}" for x, y in corners
    ]
    path.write_text("\n".join([*lines, "f 1/1 2/2 3/3 4/4"]))
    return path


def trained(data, outdir, *options):
    result = call(train, f"--data={data}", f"--outdir={outdir}", *SMALL, *options)
    assert result.exit_code == 0, result.output
    return next(outdir.iterdir())


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--coefficients=2"], ("jawOpen", "mouthSmile")),
        (["--extras=jaw"], ("jawOpen", "mouthSmile", "eyeBlink", "jaw_0", "jaw_1", "jaw_2")),
        (["--coefficients=1", "--extras=jaw"], ("jawOpen", "jaw_0", "jaw_1", "jaw_2")),
    ],
)
def test_the_sequence_it_was_trained_on_drives_and_judges_it(options, names, data, tmp_path):
    run = trained(data, tmp_path / "runs", *options)
    config = gghead.load(run, kind="avatar").config
    assert config.coefficient_names == names and config.width == len(names)
    sequence = read_sequence(str(data))
    columns = {
        **dict(zip(sequence.coefficient_names, sequence.coefficients.T, strict=True)),
        **{f"jaw_{index}": sequence.extras["jaw"][:, index] for index in range(3)},
    }
    drive = read_drive(str(data), config)
    assert torch.equal(drive.expression, torch.stack([columns[name] for name in names], 1).float())
    for command, option in (
        (animate, f"--output={tmp_path / 'own.webp'}"),
        (score, f"--outdir={tmp_path / 'scores'}"),
    ):
        said = [f"--drive={data}"] if command is animate else []
        result = call(command, f"--avatar={run}", *said, option)
        assert result.exit_code == 0, result.output
    assert len(json.loads((tmp_path / "scores/scores.json").read_text())["frames"]) == 2


def test_what_is_not_there_is_a_sentence(data, tmp_path):
    result = call(
        train, f"--data={data}", f"--outdir={tmp_path / 'runs'}", *SMALL, "--coefficients=4"
    )
    assert (
        result.exit_code == 1
        and "has 3 expression coefficients, so its first 4 cannot be taken" in result.output
    )
    run = trained(data, tmp_path / "runs", "--extras=jaw")
    bare = write_sequence(tmp_path / "bare")
    result = call(animate, f"--avatar={run}", f"--drive={bare}", f"--output={tmp_path / 'no.webp'}")
    assert result.exit_code == 1 and "has no 'jaw' to append" in result.output
    assert not (tmp_path / "no.webp").exists()


def test_other_models_are_still_refused(data, tmp_path):
    config = gghead.load(trained(data, tmp_path / "runs", "--coefficients=2"), kind="avatar").config
    with pytest.raises(UserError, match="another expression model"):
        read_drive(str(write_sequence(tmp_path / "other", names=("AU1", "AU2", "AU3"))), config)
    fewer = read_drive(str(write_sequence(tmp_path / "fewer", names=("jawOpen",))), config)
    assert fewer.at_rest == ("mouthSmile",) and not fewer.expression[:, 1].any()
    swapped = read_drive(
        str(write_sequence(tmp_path / "swapped", names=("tongueOut", "jawRight", "jawOpen"))),
        config,
    )
    assert swapped.expression[:, 0].any(), "by its name, although it is none of the first two"
    # a matrix is about all that the drive has
    np.save(tmp_path / "m.npy", np.ones((2, 3), np.float32))
    assert read_drive(str(data), config, mapping=str(tmp_path / "m.npy")).expression.shape == (8, 2)


def test_a_tracked_mesh_gives_the_first_points(data, tmp_path):
    mesh = quad(tmp_path / "tracked.obj", half=0.2, z=0.3)
    run = trained(data, tmp_path / "runs", f"--template={mesh}")
    means = gghead.load(run, kind="avatar").means
    assert means[:, :2].abs().max() < 0.21 and (means[:, 2] - 0.3).abs().max() < 0.02
    millimeters = quad(tmp_path / "mm.obj", half=74.0, z=110.0)
    result = call(
        train,
        f"--data={data}",
        f"--outdir={tmp_path / 'more'}",
        *SMALL,
        f"--template={millimeters}",
    )
    assert result.exit_code == 1 and "0% lie in the sequence's images" in result.output, (
        result.output
    )
    assert not (tmp_path / "more").exists()


def test_cameras_in_other_axes_are_noticed(tmp_path):
    def opengl(content):
        for frame in content["frames"]:
            frame["cam2world"] = frame["transform_matrix"]

    folder = write_sequence(tmp_path / "person", change=opengl)
    result = call(train, f"--data={folder}", f"--outdir={tmp_path / 'runs'}", *SMALL)
    assert result.exit_code == 1 and "other axes or units" in result.output, result.output
    assert not (tmp_path / "runs").exists()
