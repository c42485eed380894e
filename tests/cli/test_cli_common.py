"""What the commands about a trained network share: networks by name, outputs, options, hints, a
light start."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers.small_network import small_network

from gghead import checkpoints
from gghead.cli.common import check_outputs, find_network, free_path, short_name
from gghead.cli.main import main
from gghead.torch_utils import cli
from gghead.torch_utils.cli_groups import find
from gghead.torch_utils.errors import UserError

NAMES = (
    *"sample video invert reconstruct encode animate".split(),
    *(f"edit {name}" for name in "interpolate mix move pca region".split()),
)
COMMANDS = {name: find(main, name) for name in NAMES}
WRONG = [  # told before torch is there, and so at once
    ("sample", ["--views=2", "--yaw=0"], "exclude each other"),
    ("sample", ["--network=nowhere"], "does not exist"),
    ("sample", ["--network=me.jpg"], "is an image, not a network"),
    ("sample", ["--pitch=up"], "not an angle in degrees"),
    ("video", ["--output=me.jpg"], "must end in .mp4"),
    ("video", ["--output=me.jpg/x.webp"], "cannot be written"),
    ("invert", ["--target=nobody.png"], "--target=nobody.png does not exist"),
    ("invert", ["--target=me.jpg", "--steps=1,2"], "must be one positive number or four"),
    ("reconstruct", ["--network=demo", "--data=me.jpg"], "a reconstructor from views is needed"),
    ("encode", ["--network=demo", "--data=me.jpg"], "a reconstructor from views is needed"),
    (
        "animate",
        ["--avatar=demo", "--drive=me.jpg", "--output=x.png"],
        "an avatar of one person is needed",
    ),
    ("animate", ["--seeds=1", "--weights=jawOpen=1", "--output=me.jpg/x.png"], "cannot be written"),
    ("animate", ["--seeds=1", "--drive=nobody", "--output=x.png"], "--drive=nobody does not exist"),
    (
        "edit mix",
        ["--network=me.jpg", "--rows=0", "--cols=1", "--layers=1"],
        "is an image, not a network",
    ),
    ("edit pca", ["--shapes"], "leave out --shapes"),
]


def test_help_and_mistakes_need_no_torch(tmp_path):
    (tmp_path / "me.jpg").touch()
    code = """
import json, sys
from click.testing import CliRunner
from gghead.cli.main import main
wrong, names = json.loads(sys.argv[1])
for name in names:
    result = CliRunner().invoke(main, [*name.split(), "--help"])
    assert result.exit_code == 0 and "--help" in result.output, (name, result.output)
heavy = {"torch", "numpy", "PIL", "scipy", "safetensors"} & set(sys.modules)
assert not heavy, f"--help imports {heavy}"
for name, options, sentence in wrong:
    result = CliRunner().invoke(main, [*name.split(), *options])
    assert result.exit_code in (1, 2) and sentence in " ".join(result.output.split()), (
        name,
        options,
        result.output,
    )
    assert "torch" not in sys.modules, (name, options)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([WRONG, NAMES])],
        cwd=tmp_path,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["me.jpg"], "nothing was begun"


@pytest.mark.parametrize("name", COMMANDS)
def test_truth_values_are_switches_and_angles_are_degrees(name):
    for param in COMMANDS[name].params:
        if isinstance(param.type, click.types.BoolParamType) and param.name != "help":
            assert isinstance(param, cli._Switch), f"{param.opts} does not work bare"
        if any(word in param.name for word in ("yaw", "pitch")):
            assert isinstance(param.type, cli.Degrees), f"{param.opts} is not in degrees"


def test_a_name_of_its_own_wins_over_what_is_called_so_here_and_says_it(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert find_network("demo", "generator") == "demo" and not capsys.readouterr().err
    run = tmp_path / "training-runs" / "00002-tiny"
    for folder in (tmp_path / "demo", tmp_path / "latest", run):
        folder.mkdir(parents=True)
        checkpoints.save(small_network(), folder / "network-snapshot-000001.safetensors")
    assert find_network("demo", "generator") == "demo"
    assert (
        "--network=demo is the shipped network" in (said := capsys.readouterr().err)
        and "--network=./demo" in said
    )
    assert find_network("./demo", "generator") == "./demo" and not capsys.readouterr().err
    assert find_network("latest", "generator") == str(Path("training-runs/00002-tiny"))
    assert "--network=./latest" in capsys.readouterr().err
    names = {
        "demo": "demo",
        "./demo": "demo",
        str(run): "00002-tiny",
        "training-runs/00002-tiny/": "00002-tiny",
        str(run / "network-snapshot-000001.safetensors"): "00002-tiny",
        "x/small.safetensors": "small",
    }
    assert {name: short_name(name) for name in names} == names


def test_outputs_are_numbered_where_they_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert free_path("demo-psi0.7", ".webp") == Path("out/demo-psi0.7.webp")
    for name in ("demo-psi0.7.webp", "demo-psi0.7-2.webp"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).touch()
    assert free_path("demo-psi0.7", ".webp").name == "demo-psi0.7-3.webp"
    assert free_path("demo-psi0.7").name == "demo-psi0.7"


def test_outputs_that_are_there_or_cannot_be_written_are_refused(tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("kept")
    folder.mkdir()
    check_outputs([tmp_path / "new" / "deep" / "x.png", folder / "y.png"], overwrite=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "file",
        "folder",
    ], "nothing is made on trial"
    with pytest.raises(
        UserError, match="file exists already; give --overwrite to replace it, or another --outdir"
    ):
        check_outputs([file], overwrite=False)
    check_outputs([file], overwrite=True)
    for path in (file / "x.png", folder):
        with pytest.raises(UserError):
            check_outputs([path], overwrite=True)
    assert file.read_text() == "kept"


def test_what_inversion_says_to_do_next_runs_as_it_stands(tmp_path, monkeypatch):
    """In a shell, from a folder with a space in its name."""
    home = tmp_path / "my heads"
    home.mkdir()
    monkeypatch.chdir(home)
    checkpoints.save(small_network(), home / "net.safetensors")
    done = CliRunner().invoke(
        COMMANDS["invert"],
        [
            "--network=net.safetensors",
            "--target=seeds:0",
            "--steps=2",
            "--video-format=none",
            "--outdir=my results",
        ],
    )
    assert done.exit_code == 0, done.output
    hints = [line.partition(": ")[2] for line in done.output.splitlines() if "gen_" in line]
    assert len(hints) == 2
    for line in hints:
        done = subprocess.run(
            line + " --size=16", shell=True, cwd=home, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr
    assert (home / "out" / "net-psi1" / "seed0000-z.ply").is_file() and (
        home / "out" / "net-psi1-sweep.webp"
    ).is_file()


@pytest.mark.parametrize(
    ("sentence", "named"),
    [
        ("use `masks='none'`.", "use --masks=none."),
        (
            "give `max_images=FILE` or `camera='frontal'`",
            "give --max-images=FILE or --camera=frontal",
        ),
        ("`samples=20000` and `up='z'`", "`samples=20000` and `up='z'`"),  # no options here
        ("leave out `masks`, or not", "leave out --masks, or not"),
        ("camera=2.png is no image", "camera=2.png is no image"),  # a file
        (
            "/data/masks=4 and x-camera=5 and --camera=6",
            "/data/masks=4 and x-camera=5 and --camera=6",
        ),
    ],
)
def test_parameters_that_the_library_names_are_printed_as_options(sentence, named):
    @cli.command()
    @click.option("--masks")
    @click.option("--max-images")
    @click.option("--camera")
    def main(**options):
        """Do it."""
        raise UserError(sentence)

    result = CliRunner().invoke(main, [])
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == f"Error: {named}"
