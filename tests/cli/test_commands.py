"""What holds for every command: quick help, options of one style, words before work, outputs that
can be written."""

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
import pytest
from click.testing import CliRunner
from helpers.declared_twice import declared_twice
from helpers.places import ROOT

from gghead.cli.common import PSI
from gghead.cli.main import main
from gghead.torch_utils import cli, cli_groups
from gghead.torch_utils.cli_groups import SCRIPTS, find

UNSET = click.Option(["--x"]).default
HEAVY = ("torch", "numpy", "scipy", "PIL")
RUN_OPTIONS = {
    "train avatar": ["--data=x"],
    "train encoder": ["--data=x"],
    "train prior": ["--samples=4"],
    "train expression": ["--data=x", "--network=x"],
    "train gan": ["--data=x"],
}
READY = {  # a command -> options that are right as such
    **RUN_OPTIONS,
    "compress": ["--avatar=x", "--dest=new.safetensors"],
    "score gan": ["--network=x"],
    "score heads": ["--network=demo"],
    "score avatar": ["--avatar=x"],
    "score encoder": ["--network=x", "--data=x"],
    "score expression": ["--network=x", "--data=x"],
    "score prior": ["--prior=x"],
    "convert-network": ["--network=demo", "--dest=new.safetensors"],
    "data synthetic": ["--dest=new.zip"],
    "data sequence": ["--dest=new.zip"],
    **{f"benchmark {name}": [] for name in ("raster", "train", "sample", "data", "encode")},
    "benchmark compression": ["--avatar=x"],
    "benchmark avatar": ["--avatar=x"],
    "data check": ["x"],
    "data convert": ["--source=x", "--dest=new.zip"],
    "data photos": ["--source=x", "--dest=new.zip"],
    "data shard": ["--source=x", "--dest=new"],
}
UNWRITABLE = {  # a command -> options that name an output inside a file
    **{
        name: [*options, "--json=x/new.json"]
        for name, options in READY.items()
        if name.startswith("benchmark ")
    },
    **{name: [*options, "--outdir=x/runs"] for name, options in RUN_OPTIONS.items()},
    "compress": ["--avatar=y", "--dest=x/new.safetensors"],
    "score avatar": ["--avatar=y", "--video=x/new.webp"],
    "score encoder": ["--network=y", "--data=y", "--outdir=x/out"],
    "score expression": ["--network=y", "--data=y", "--outdir=x/out"],
    "score prior": ["--prior=y", "--outdir=x/out"],
    "score heads": ["--network=y", "--json=x/new.json"],
    "convert-network": ["--network=demo", "--dest=x/new.safetensors"],
    "data synthetic": ["--dest=x/new.zip"],
    "data sequence": ["--dest=x/new.zip"],
    "data check": ["x", "--report=x/new.json"],
    "data convert": ["--source=x", "--dest=x/new.zip"],
    "data photos": ["--source=x", "--dest=x/new.zip"],
    "data shard": ["--source=x", "--dest=x/new"],
}


def commands(group=main, words=""):
    """Every command by its words."""
    for name in group.list_commands(None):
        found = group.get_command(click.Context(group), name)
        if isinstance(found, click.Group):
            yield from commands(found, f"{words}{name} ")
        else:
            yield f"{words}{name}", found


def options():
    return [
        (name, option)
        for name, command in commands()
        for option in command.params
        if isinstance(option, click.Option)
    ]


def test_every_command_that_computes_takes_a_number_of_threads():
    for name, command in commands():
        given = {option for parameter in command.params for option in parameter.opts}
        assert ("--device" in given) <= ("--threads" in given), name


def parsed(command, arguments):
    with command.make_context("x", list(arguments), resilient_parsing=True) as context:
        return context.params


@pytest.fixture
def where(tmp_path):
    """Runs a command in a folder with a file x and a torch that only says that it is imported."""
    (tmp_path / "x").write_bytes(b"nothing")
    fake = tmp_path / "fake" / "torch"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text(
        "import sys; sys.stderr.write('TORCH\\n'); sys.stderr.flush()\nraise SystemExit(9)\n"
    )

    def run(name, arguments):
        command = [sys.executable, "-m", "gghead", *name.split(), *arguments]
        path = os.pathsep.join([str(tmp_path / "fake"), str(ROOT)])
        environment = {**os.environ, "PYTHONPATH": path, "GGHEAD_PROGRESS": "on"}
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


# --------------------------------------------------------------------------------------- quick help
def test_help_of_every_command_imports_nothing_heavy():
    code = f"""
import sys
from gghead.cli.main import main
def show(words):
    try:
        main([*words, "--help"], prog_name="gghead")
    except SystemExit as end:
        assert end.code == 0, words
    # the help of convert lists the formats by the readers' table, which knows arrays
    light = ("numpy", "PIL") if words == ["data", "convert"] else ()
    heavy = [name for name in {HEAVY!r} if name in sys.modules and name not in light]
    if heavy:
        sys.exit(f"{{words}} imports {{heavy}}")
for words in {sorted((name.split() for name, _ in commands()), key=["data", "convert"].__eq__)!r}:
    show(words)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("train gan", []),
        ("train gan", ["--data=x", "--metrics=nonsense"]),
        ("train gan", ["--data=x", "--set=loss.r1_gama=1"]),
        ("train gan", ["--resume=x", "--batch=8"]),
        ("train avatar", []),
        ("train avatar", ["--data=x", "--resolution=big"]),
        ("train encoder", []),
        ("train expression", ["--data=x"]),
        ("score gan", ["--network=x", "--metrics=nonsense"]),
        ("score heads", ["--network=x", "--seeds=7-0"]),
        ("data convert", ["--source=x", "--dest=x.tar"]),
        ("data convert", ["--source=y", "--dest=y.zip"]),
        ("data photos", ["--source=x", "--dest=y.zip", "--resolution=8x9"]),
        ("data convert", ["--source=x", "--dest=y.zip", "--resolution=big"]),
        ("data sequence", ["--dest=y.zip", "--split=test"]),
        ("convert-network", ["--network=demo", "--dest=y.ply"]),
        ("compress", ["--avatar=x", "--dest=y.zip"]),
        ("benchmark train", ["--stage=3"]),
        ("benchmark data", ["--formats=gif"]),
        ("benchmark compression", ["--avatar=x", "--bits=4"]),
        ("benchmark avatar", ["--avatar=x", "--forms=sparse"]),
    ],
)
def test_wrong_options_are_said_before_torch_is_imported(where, name, arguments):
    done = where(name, arguments)
    assert done.returncode in (1, 2) and "Error: " in done.stderr and "TORCH" not in done.stderr, (
        done.stderr
    )


@pytest.mark.parametrize("name", [name for name in READY if name.startswith("benchmark ")])
def test_an_option_that_a_benchmark_does_not_have_costs_no_import_of_torch(where, name):
    done = where(name, [*READY[name], "--nonsense=1"])
    assert (
        done.returncode == 2 and "No such option" in done.stderr and "TORCH" not in done.stderr
    ), done.stderr


# ---------------------------------------------------------------------------------------- one style
def test_every_command_speaks_and_ends_by_the_same_rules():
    assert not [name for name, command in commands() if not isinstance(command, cli.Command)]


def test_every_switch_works_bare_and_with_a_value():
    switches = [
        (name, option) for name, option in options() if option.is_flag or option.type is click.BOOL
    ]
    assert len(switches) > 30
    table = dict(commands())
    for name, option in switches:
        for spelled in option.opts:
            for arguments, wanted in (
                ([spelled], True),
                ([f"{spelled}=1"], True),
                ([f"{spelled}=0"], False),
                ([spelled, "0"], False),
                ([spelled.replace("-", "_").replace("__", "--")], True),
            ):
                if spelled.startswith("--") or "=" not in arguments[0] and "_" not in arguments[0]:
                    assert parsed(table[name], arguments)[option.name] is wanted, (name, arguments)


def test_a_bare_switch_leaves_the_argument_behind_it_alone():
    check = find(main, "data check")
    given = parsed(check, ["--fast", "heads.zip"])
    assert given["fast"] is True and str(given["data"]) == "heads.zip"
    given = parsed(check, ["--", "--fast"])
    assert given["fast"] is False and str(given["data"]) == "--fast"


def test_angles_are_degrees_and_say_so():
    angles = [
        (name, option)
        for name, option in options()
        if {"yaw", "pitch", "roll", "angle", "fov"} & set(option.name.split("_"))
    ]
    assert angles
    assert not [
        f"{name} {option.opts[0]}"
        for name, option in angles
        if "degree" not in f"{option.help} {option.type.name} {option.metavar}".lower()
    ]


@pytest.mark.parametrize(
    "shared",
    [
        "--device",
        "--threads",
        "--seed",
        "--seeds",
        "--outdir",
        "--output",
        "--dest",
        "--dry-run",
        "--overwrite",
        "--resume",
        "--json",
        "--fps",
    ],
)
def test_the_same_option_is_the_same_in_every_command(shared):
    found = {}
    for name, option in options():
        if shared in option.opts:
            kind = type(option.type).__name__
            kind = "Path" if kind == "File" else kind
            metavar = option.metavar or (kind == "Path" and "PATH")
            key = (tuple(sorted(option.opts)), kind, getattr(option.type, "min", None), metavar)
            found.setdefault(key, []).append(name)
    assert len(found) == 1, found


@pytest.mark.parametrize(
    ("shared", "says"),
    [
        ("--trunc-cutoff", "[default: all]"),
        ("--subset", "a fixed random subset of so many images"),
        ("--max-images", "nly the first so many"),
        ("--subjects", "nly these people|[default: all]"),
        ("--prior-steps", "20|Steps from noise to a latent  [default: 20]"),
        ("--lr", "learning rate"),
        ("--motion-lr", "learning rate"),
        ("--refine", "of optimizing the encoder's latent on the views"),
        ("--landmarker", "photos|mediapipe"),
    ],
)
def test_the_same_option_says_the_same_and_defaults_to_the_same(shared, says):
    found = [(name, option) for name, option in options() if shared in option.opts]
    assert found
    for name, option in found:
        text = f"{option.help} {option.default}".lower()
        assert any(part.lower() in text for part in says.split("|")), (name, text)
    defaults = {option.default for _, option in found if option.default not in (None, UNSET)}
    assert len(defaults) <= 1


def test_seeds_are_truncated_alike_wherever_they_are_drawn_and_not_where_they_are_scored():
    found = {name: option for name, option in options() if "--trunc" in option.opts}
    drawn = {name for name in found if not name.startswith("score ")}
    assert drawn >= {"sample", "video", "animate", "edit mix"} and len(found) > len(drawn)
    for name, option in found.items():
        assert "1 = off, 0 = average head" in option.help, name
        if option.default in (None, UNSET):
            assert f"[default: {PSI:g} for seeds, off for " in option.help, name
        else:
            assert option.default == (PSI if name in drawn else 1), name


def test_a_network_that_is_not_named_is_the_shipped_one():
    others = {
        *("reconstruct", "encode", "score encoder", "score expression"),  # no encoder is shipped
        *("score gan", "convert-network"),  # what is measured or converted is named
        "train expression",  # asks for a reconstructor once it has its options
        "score prior",  # the one that the prior was trained for
        "benchmark encode",  # an untrained one
    }
    found = {name: option for name, option in options() if "--network" in option.opts}
    assert len(found) > 15 and others <= found.keys()
    for name, option in found.items():
        if name in others:
            assert option.default in (None, UNSET), name
        elif name == "animate":  # demo where seeds are given and no avatar
            (seeds,) = (o for command, o in options() if command == name and o.name == "seeds")
            assert "of demo, if no --network is given" in seeds.help
        else:
            assert option.default == "demo" or "[default: demo]" in option.help, name


def test_size_is_pixels_drawn_and_resolution_pixels_of_data():
    """--size is a number (benchmarks take lists of it); --resolution N or WxH."""
    for name, option in options():
        if "--size" in option.opts:
            wanted = cli.IntRangeList if name.startswith("benchmark ") else click.IntRange
            assert isinstance(option.type, (wanted, click.IntRange)), name
        if "--resolution" in option.opts:
            assert isinstance(option.type, cli.Resolution), name


def test_no_command_has_a_name_for_something_else_that_another_has():
    """--video, --frames and --beside once were both numbers, files and switches."""
    kinds: dict[str, dict[str, list[str]]] = {}
    for name, option in options():
        if not name.startswith(("benchmark ", "train ")):
            kind = type(option.type).__name__.removesuffix("Range").replace("Integer", "Int")
            kind = {"_Names": "StringParamType"}.get(kind, kind)  # names with commas are text, too
            for spelled in option.opts:
                kinds.setdefault(spelled, {}).setdefault(kind, []).append(name)
    several = {spelled: found for spelled, found in kinds.items() if len(found) > 1}
    known = {
        "--views",  # how many, or which
        "--cameras",  # kinds of poses, a file of them, or which of the data's
        "--expressions",  # how many, or which
        "--camera",  # names of paths, or also a file's cameras
        "--masks",  # a folder, or where they are
        "--steps",  # of several stages, too
    }
    assert several.keys() <= known, several


@pytest.mark.parametrize(
    ("words", "new"),
    [
        ("animate --frames=0", "--only-frames"),
        ("sample --grid=0", "--overview"),
        ("invert --video=none", "--video-format"),
        ("invert --max-images=4", "--subset"),
        ("train gan --max-images=4", "--subset"),
        ("train avatar --iterations=4", "--steps"),
        ("train avatar --motion-rate=1", "--motion-lr"),
        ("train expression --rate=1", "--lr"),
        ("train prior --holdout=0.1", "--holdout-share"),
        ("train encoder --cameras=4", "--max-cameras"),
        ("train encoder --identities=4", "--max-subjects"),
        ("reconstruct --count=3", "--max-views"),
        ("score prior --count=3", "--samples"),
        ("score expression --size=64", "--resolution"),
        ("benchmark encode --size=64", "--resolution"),
        ("benchmark data --size=64", "--source-resolution"),
        ("benchmark train --beside=1", "--busy"),
        ("benchmark avatar --beside=1", "--busy"),
    ],
)
def test_options_that_were_spelled_otherwise_are_refused_with_their_name(words, new):
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 2 and f"is called {new} here." in result.output


@dataclass(frozen=True)
class Settings:
    """A config that a command sets by hand."""

    size: int = 8
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = ()


@cli.command()
@click.option("--size", type=int, default=8)
@click.option("--kind", type=click.Choice(["a", "b"]), default="a")
@click.option("--sizes", type=cli.IntRangeList(), default="8")
@click.option("--other", type=int, default=8)
def set_by_hand(size, kind, sizes, other):
    """Set things."""
    click.echo((Settings(size, kind, sizes), other))


def test_an_option_with_a_field_is_declared_by_the_field_alone():
    found = [f"{name} {twice}" for name, command in commands() for twice in declared_twice(command)]
    assert not found, "give the field an Option, and the command its ConfigOptions"
    assert declared_twice(set_by_hand) == [
        "--size (Settings.size)",
        "--kind (Settings.kind)",
        "--sizes (Settings.sizes)",
    ]


def test_help_of_an_option_is_a_phrase_without_a_full_stop():
    wrong = [
        f"{name} {option.opts[0]}: {option.help}"
        for name, option in options()
        if not option.help or option.help.endswith(".") or ".  [default" in option.help
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("text", "square", "found"),
    [
        ("64", False, (64, 64)),
        ("80x60", False, (80, 60)),
        ("64", True, 64),
        ("64x64", True, 64),
        ("64x48", True, "square"),
        ("big", True, "is no number such as 64"),
        ("64x", False, "neither a number nor WIDTHxHEIGHT"),
        ("4", True, "8 pixels at least and 100 at most"),
        ("640", False, "8 pixels at least and 100 at most"),
    ],
)
def test_resolutions_are_numbers_or_width_x_height(text, square, found):
    kind = cli.Resolution(square, smallest=8, largest=100)
    if isinstance(found, str):
        with pytest.raises(click.BadParameter, match=found):
            kind.convert(text, None, None)
    else:
        assert kind.convert(text, None, None) == found


# -------------------------------------------------------------------------------- words before work
@pytest.mark.parametrize("name", READY)
def test_the_first_line_comes_before_anything_heavy(where, name):
    done = where(name, READY[name])
    lines = done.stderr.splitlines()
    assert lines[0].endswith(" …"), done.stderr
    if name == "data shard":  # works without torch, so that it comes to the source
        assert "x is not a zip file" in lines[-1], done.stderr
    else:
        assert lines[-1] == "TORCH" and done.returncode == 9, done.stderr


def test_a_command_whose_step_is_slow_keeps_talking(monkeypatch, tmp_path):
    monkeypatch.setenv("GGHEAD_PROGRESS", "0.1")
    import time

    from gghead.cli import synthetic_heads
    from gghead.data.synthetic import scenes

    def slow(request, workers):
        time.sleep(0.5)  # one call that comes back to nobody
        return iter(())

    monkeypatch.setattr(scenes, "scenes", slow)
    result = CliRunner().invoke(synthetic_heads.main, [f"--dest={tmp_path / 'a.zip'}", "--num=4"])
    assert result.exit_code == 0
    lines = [
        line
        for line in result.output.splitlines()
        if line.startswith("Drawing 0/4 heads (0%)") or line.startswith("Drawing")
    ]
    assert len(lines) >= 3 and result.output.splitlines()[0].endswith(" …"), result.output


@cli.command(stopped="Half of it is kept; the same command goes on.")
@click.option("--how")
def example(how):
    """Do something long."""
    raise KeyboardInterrupt(*([how] if how else []))


@pytest.mark.parametrize(
    "how, sentence",
    [
        ([], "Half of it is kept; the same command goes on."),
        (["--how=State 3 is kept."], "State 3 is kept."),
    ],
)
def test_ctrl_c_says_what_is_kept(how, sentence):
    result = CliRunner().invoke(example, how)
    assert (
        result.exit_code == 130
        and f"Stopped. {sentence}" in result.output
        and "Aborted" not in result.output
    )


def test_ctrl_c_while_processes_draw_is_one_sentence(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "datasets" / "synthetic_heads.py"),
        "--dest=a.zip",
        "--num=20000",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GGHEAD_PROGRESS": "0.2"}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    seen = next(
        line
        for line in process.stderr
        if line.startswith("Drawing ") and not line.startswith("Drawing 0/")
    )
    # as a terminal does, which tells all processes of the command
    os.killpg(process.pid, signal.SIGINT)
    try:
        rest = process.communicate(timeout=60)[1]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130 and "Traceback" not in rest, seen + rest
    assert rest.rstrip().endswith("Stopped. Nothing was written; the same command starts again.")
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------- hints that can be typed
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_runs_the_command_that_hints_name(script):
    assert f'run("{SCRIPTS[script]}")' in (ROOT / script).read_text()
    assert isinstance(find(main, SCRIPTS[script]), click.Command)


@pytest.mark.parametrize(
    "script", ["train.py", "scripts/score_prior.py", "datasets/synthetic_heads.py"]
)
def test_a_hint_runs_where_the_user_stands(monkeypatch, tmp_path, script):
    place = tmp_path / "two words"
    place.mkdir()
    for folder in (ROOT, ROOT / "scripts", place):
        monkeypatch.chdir(folder)
        done = subprocess.run(
            cli.hint(script, "--help"),
            shell=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0 and "Usage:" in done.stdout, done.stderr


def test_a_hint_quotes_what_needs_it():
    assert (
        shlex.split(cli.hint("train.py", "--resume=two words/it's"))[-1]
        == "--resume=two words/it's"
    )


@pytest.fixture
def installed(monkeypatch):
    """As in an installed gghead: no script is there."""
    monkeypatch.setattr(cli_groups, "_script", lambda script: Path("/nowhere") / script)


def test_without_a_checkout_a_hint_names_the_command(installed):
    words = shlex.split(cli.hint("scripts/train_avatar.py", "--data=two words"))
    assert words[-3:] == ["train", "avatar", "--data=two words"]
    assert words[0].endswith("gghead") or words[1:3] == ["-m", "gghead"]
    with pytest.raises(KeyError):
        cli.hint("scripts/no_such_script.py")


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("python scripts/edit.py mix --rows=0", "gghead edit mix --rows=0"),
        ("see `dataset_tool.py photos`.", "see `gghead data photos`."),
        (
            "torchrun --nproc-per-node=8 train.py --x",
            "torchrun --nproc-per-node=8 -m gghead train gan --x",
        ),
        ("as in training/gan/train.py", "as in training/gan/train.py"),
        ("my_train.py, retrain.py", "my_train.py, retrain.py"),
    ],
)
def test_without_a_checkout_sentences_name_the_command(installed, text, typed):
    assert cli_groups.as_typed(text) == typed


def test_without_a_checkout_help_and_errors_name_the_command(installed):
    shown = CliRunner().invoke(main, ["edit", "mix", "--help"]).output
    assert "gghead edit mix --network=demo" in shown and ".py" not in shown
    refused = CliRunner().invoke(main, ["sample", "--network=nowhere"]).output
    assert "does not exist" in refused and ".py" not in refused


def test_in_a_checkout_sentences_stay_as_they_are():
    assert cli_groups.as_typed("python scripts/edit.py mix") == "python scripts/edit.py mix"


# ----------------------------------------------------------------------------- outputs, before work
@pytest.mark.parametrize("name", UNWRITABLE)
def test_outputs_that_cannot_be_written_are_found_first(where, name):
    done = where(name, UNWRITABLE[name])
    assert (
        done.returncode == 1 and "cannot be written" in done.stderr and "TORCH" not in done.stderr
    ), done.stderr


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(cli.UserError, match="is a folder; name a file"):
        cli.check_writable(tmp_path, "--plot")
    with pytest.raises(cli.UserError, match="is a file; name a folder"):
        cli.check_writable(tmp_path / "file", "--outdir", folder=True)
    cli.check_writable(tmp_path / "a" / "b" / "c.png", "--plot")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize(
    "name",
    [
        "data synthetic",
        "data sequence",
        "convert-network",
        "data convert",
        "data photos",
        "data shard",
    ],
)
def test_what_is_finished_is_not_replaced_unless_told(where, tmp_path, name):
    dest = next(part for part in READY[name] if part.startswith("--dest=")).removeprefix("--dest=")
    (
        (tmp_path / dest).mkdir()
        if name.endswith("shard")
        else (tmp_path / dest).write_bytes(b"precious")
    )
    done = where(name, READY[name])
    assert done.returncode == 1 and "exists already; give --overwrite" in done.stderr, done.stderr
    again = where(name, [*READY[name], "--overwrite"])
    assert again.returncode == 9 or (
        name == "data shard" and "x is not a zip file" in again.stderr  # works without torch
    )
