"""The command gghead: its groups, `python -m gghead`, completion, scripts of a checkout that is not
installed."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers.places import ROOT

from gghead.cli.main import main
from gghead.torch_utils import cli
from gghead.torch_utils.cli_groups import SCRIPTS, LazyGroup, find

WORDS = {
    "train": "gan decoder encoder avatar prior expression",
    "score": "gan heads encoder avatar prior expression",
    "data": "photos check convert shard synthetic sequence",
    "edit": "interpolate mix region pca move",
    "benchmark": "raster train sample data encode compression avatar",
}


def python(code_or_arguments, cwd, path=ROOT, **environment):
    """Run this Python; text is code."""
    arguments = (
        ["-c", code_or_arguments] if isinstance(code_or_arguments, str) else code_or_arguments
    )
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(path), **environment},
    )


# ------------------------------------------------------------------------------------------- groups
def test_the_groups_hold_the_commands_that_are_documented():
    context = click.Context(main)
    for group, words in WORDS.items():
        assert set(find(main, group).list_commands(context)) == set(words.split())
    single = set(main.list_commands(context)) - set(WORDS)
    assert single == set(
        "sample video invert reconstruct encode animate compress convert-network doctor".split()
    )


def test_every_command_has_a_line_in_the_help_of_its_group():
    for words in ["", *WORDS]:
        group = find(main, words)
        shown = CliRunner().invoke(main, [*words.split(), "--help"]).output
        for name in group.list_commands(click.Context(group)):
            line = group.line_of(name)
            assert f"  {name} " in shown and " ".join(line.split()[:4]) in shown
            assert 10 < len(line) < 78 and not line.endswith(".") and line[0].isupper()


def test_the_help_of_the_group_imports_no_command(tmp_path):
    done = python(
        "import sys\nfrom gghead.cli.main import main\n"
        "main(['--help'], prog_name='gghead', standalone_mode=False)\n"
        "homes = ('gghead.cli.', 'gghead.training.cli.')\n"
        "found = [name for name in sys.modules if name.startswith(homes)]\n"
        "print(found)",
        tmp_path,
    )
    assert done.stdout.splitlines()[-1] == "['gghead.cli.main']", done.stdout + done.stderr


def test_python_m_gghead_is_the_same_command(tmp_path):
    done = python(["-m", "gghead", "train", "--help"], tmp_path)
    assert done.returncode == 0 and "Usage: python -m gghead train" in done.stdout, done.stderr


def test_a_command_that_does_not_exist_is_refused_with_the_nearest_name():
    result = CliRunner().invoke(main, ["trian"])
    assert result.exit_code == 2 and "Did you mean 'train'?" in result.output


def test_a_command_that_was_called_otherwise_is_refused_with_its_name():
    result = CliRunner().invoke(main, ["score", "network", "--network=x"])
    assert result.exit_code == 2 and "'network' is called 'gan'" in result.output


def test_underscores_are_dashes_in_names_of_commands_too():
    result = CliRunner().invoke(main, ["convert_network", "--help"])
    assert result.exit_code == 0 and "--dest" in result.output


def test_options_without_a_command_are_those_of_the_default():
    @cli.command()
    @click.option("--size", type=int)
    def one(size):
        """Say the size."""
        click.echo(f"size {size}")

    group = LazyGroup({"one": one}, default="one", help="Some.")
    assert "size 3" in CliRunner().invoke(group, ["--size=3"]).output
    assert "Commands" in CliRunner().invoke(group, ["--help"]).output


def test_an_old_spelling_is_refused_with_the_new_one():
    @cli.command(renamed={"--old-name": "--new"})
    @click.option("--new")
    def one(new):
        """Say it."""

    for given in (["--old-name=1"], ["--old_name", "1"]):
        result = CliRunner().invoke(one, given)
        assert result.exit_code == 2 and "--old-name is called --new here." in result.output
    assert CliRunner().invoke(one, ["--new=--old-name"]).exit_code == 0


# --------------------------------------------------------------------------------------- completion
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gghead tr", "train"),
        ("gghead train av", "avatar"),
        ("gghead data sh", "shard"),
        ("gghead no-such-command tr", None),
        ("gghead animate --frames=0 --only-f", "--only-frames"),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands_without_torch(tmp_path, shell, typed, offered):
    words = typed.split()
    count = words[-1] if shell == "fish" else str(len(words) - 1)
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: sys.stderr.write(f\"torch {'torch' in sys.modules}\"))\n"
        "from gghead.cli.main import main\nmain(prog_name='gghead')"
    )
    done = python(
        code, tmp_path, _GGHEAD_COMPLETE=f"{shell}_complete", COMP_WORDS=typed, COMP_CWORD=count
    )
    found = done.stdout.replace(",", " ").split()
    assert offered in found if offered else not found or "train" in found, done.stdout + done.stderr
    assert done.stderr == "torch False"


def test_the_shell_completes_options(tmp_path):
    done = python(
        "from gghead.cli.main import main\nmain(prog_name='gghead')",
        tmp_path,
        _GGHEAD_COMPLETE="bash_complete",
        COMP_WORDS="gghead sample --tr",
        COMP_CWORD="2",
    )
    assert {"plain,--trunc", "plain,--trunc-cutoff"} <= set(done.stdout.split()), done.stderr


# ----------------------------------------------------------------- checkouts that are not installed
@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A folder of this environment's packages without gghead, and an installed gghead of another
    version that says what it is."""
    place = tmp_path_factory.mktemp("bare")
    packages = place / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "gghead" not in entry.name.lower() and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    other = place / "other" / "gghead"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise SystemExit('the installed one')\n")
    return place


def run_script(bare, script, where, *paths):
    """``python -S script --help``: no site-packages, so that only ``paths`` hold packages."""
    path = os.pathsep.join(map(str, [*paths, bare / "packages"]))
    return python(["-S", script, "--help"], where, path)


@pytest.mark.parametrize("script", [*SCRIPTS, "scripts/demo.py"])
def test_scripts_run_from_a_checkout_that_is_not_installed_and_from_any_folder(
    bare, tmp_path, script
):
    done = run_script(bare, ROOT / script, tmp_path)
    assert done.returncode == 0 and f"Usage: {Path(script).name}" in done.stdout, done.stderr


@pytest.mark.parametrize("script", ["train.py", "scripts/edit.py", "datasets/synthetic_heads.py"])
def test_a_checkouts_own_gghead_wins_over_an_installed_one(bare, tmp_path, script):
    done = run_script(bare, ROOT / script, tmp_path, bare / "other")
    assert done.returncode == 0, done.stderr
    assert (
        "the installed one"
        in python(["-S", "-c", "import gghead"], tmp_path, bare / "other").stderr
    )


def test_scripts_are_three_lines_of_code():
    for script in SCRIPTS:
        code = (ROOT / script).read_text().rpartition('"""')[2]
        assert len([line for line in code.splitlines() if line.strip()]) == 3, script
