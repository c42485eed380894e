"""Options of a command that are declared by the fields of its config."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import click
import pytest
from click.testing import CliRunner

from gghead.cli import animate, encode, invert, reconstruct, synthetic_heads
from gghead.cli.dataset_tool import convert, photos
from gghead.torch_utils import cli, config_options
from gghead.torch_utils import config as config_json
from gghead.torch_utils.config import NO_OPTIONS, ConfigError, Option, Range
from gghead.torch_utils.config_options import ConfigOptions
from gghead.torch_utils.errors import UserError
from gghead.training.cli import (
    score_encoder,
    train_avatar,
    train_decoder,
    train_encoder,
    train_expression,
    train_gan,
    train_prior,
)

OTHERS = (animate, convert, encode, invert, photos, reconstruct, score_encoder, synthetic_heads)
TRAININGS = (train_avatar, train_decoder, train_encoder, train_expression, train_gan, train_prior)


@dataclass(frozen=True)
class Net:
    width: Annotated[int, Range(8), Option()] = 64
    """Width of
    the ``tokens``.

    Much more about it."""
    depth: int = 2
    """No option."""


@dataclass(frozen=True)
class Stage:
    start: int = 0
    """First step."""
    weight: Annotated[float, Range(0), Option()] = 1.0
    """A weight."""


@dataclass(frozen=True)
class Train:
    preset: Annotated[str, Option("--preset", "--cfg")] = "a"
    """Where to start."""
    net: Net = field(default_factory=Net)
    """One network."""
    critic: Net = field(default_factory=Net)
    """Another one with the same option."""
    hidden: Annotated[Net, NO_OPTIONS] = field(default_factory=Net)
    """A third one without."""
    stages: tuple[Stage, ...] = (Stage(), Stage(5, 2.0))
    """The schedule."""
    rate: Annotated[float | None, Range(0, 1, above=True), Option("--lr", resume=True)] = None
    """Learning rate."""
    kind: Annotated[Literal["x", "y"], Option(default="what fits")] = "x"
    """Kind."""
    flip: Annotated[bool, Option()] = True
    """Flip."""
    people: Annotated[tuple[str, ...], Option(form="names and ranges")] = ()
    """People."""
    names: Annotated[tuple[str, ...], Option()] = ()
    """Names."""
    views: Annotated[tuple[int, ...], Range(1), Option()] = (1, 2)
    """Views."""
    gains: Annotated[tuple[float, ...], Option()] = (1.0,)
    """Gains."""
    size: Annotated[tuple[int, ...] | None, Range(1), Option(form="resolution")] = (4, 4)
    """Size."""
    side: Annotated[int, Range(16, 64), Option(form="resolution")] = 16
    """Side."""
    world: Annotated[tuple[tuple[float, ...], ...] | None, Option(form="matrix")] = None
    """World."""
    file: Annotated[Path | None, Option("--from")] = None
    """File."""


PRESETS = {"a": Train(), "b": Train(preset="b", rate=0.5, net=Net(16), critic=Net(16))}


def run(*arguments, preset="a"):
    options = ConfigOptions(Train, PRESETS, preset, names={"net.depth": "--deep"})
    seen = []

    @cli.command(moving=False)
    @options
    @click.option("--set", multiple=True)
    @click.option("--resume")
    def main(resume, **given):
        """Train."""
        if resume:
            options.refuse_with_resume(given, hint=", or start anew")
        seen.append((given, options.apply(options.start(given), given)))
        if given["from"]:
            raise UserError(f"There is no `file='{given['from']}'`; see --deep.")
        if given["kind"] == "y":
            raise ConfigError("{kind}=y needs {rate} and {net.depth}, not {hidden.depth}.")

    result = CliRunner().invoke(main, list(arguments))
    return result, seen[0] if seen else None, options


def test_what_is_given_lands_in_every_field_of_that_name():
    result, (given, config), options = run(
        "--cfg=b", "--width=32", "--weight=3", "--lr=0.25", "--flip=0", "--people=anna,08-10",
        "--names= k , l", "--views=1,4-6", "--gains=-1,0.5", "--size=3x5", "--set=net.depth=9",
        "--set=hidden.depth=7", "--set=stages.start=0",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert config.preset == "b"
    assert (config.net, config.critic, config.hidden) == (Net(32, 9), Net(32, 2), Net(64, 7))
    assert config.stages == (Stage(0, 3.0), Stage(0, 3.0))
    assert config.people == ("anna", "08", "09", "10") and config.names == ("k", "l")
    assert (config.views, config.gains, config.size) == ((1, 4, 5, 6), (-1.0, 0.5), (3, 5))
    assert config.rate == 0.25 and config.flip is False and config.kind == "x"
    assert options.is_given(given, "rate") and not options.is_given(given, "kind")
    given["set"] = ("kind=y",)
    assert options.is_given(given, "kind")


def test_nothing_given_is_the_preset():
    assert run()[1][1] is not None and run()[1][1] == PRESETS["a"]
    assert run("--preset=b")[1][1] == PRESETS["b"]
    with pytest.raises(ValueError, match="No preset"):
        ConfigOptions(Train, PRESETS, None).start({"preset": None})
    assert run("--names=none")[1][1].names == ()


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["--width=7"], 2, "--width must be at least 8, but it is 7."),
        (["--lr=0"], 2, "--lr must be above 0 and at most 1, but it is 0.0."),
        (["--lr=nan"], 2, "--lr must be above 0 and at most 1, but it is nan."),
        (["--width=wide"], 2, "'wide' is not a valid integer"),
        (["--views=2,0"], 2, "--views must be at least 1, but it is 0."),
        (["--size=7x"], 2, "neither a number nor WIDTHxHEIGHT"),
        (["--size=0x3"], 2, "0x3: sides have 1 pixels at least"),
        (["--side=8"], 2, "sides have 16 pixels at least and 64 at most"),
        (["--side=65"], 2, "sides have 16 pixels at least and 64 at most"),
        (["--world=1,2"], 2, "'1,2' has 2 numbers, but a 4x4 matrix has 16"),
        (["--from=lost"], 1, "Error: There is no --from=lost; see --deep."),
        (["--set=lr"], 1, "--set=lr must have the form key=value"),
        (["--set=net.widht=9"], 1, "--set.net has no key 'widht'; did you mean 'width'?"),
        (["--set=net.width=7"], 1, "--set.net.width must be at least 8, but it is 7."),
        (["--set=stages.wait=7"], 1, "--set.stages[0] has no key 'wait'"),
        (["--kind=y"], 1, "Error: --kind=y needs --lr and --deep, not hidden.depth."),
        (["--resume=r", "--width=9"], 1, "own options; leave out --width, or start anew."),
        (["--depth=3"], 2, "No such option"),
    ],
)
def test_wrong_values_are_one_sentence_that_names_the_option(arguments, code, words):
    result, _, _ = run(*arguments)
    assert result.exit_code == code and words in result.output, result.output


def test_a_resumed_run_takes_what_its_fields_say():
    result, (_, config), _ = run("--resume=r", "--lr=0.5", "--set=net.depth=3")
    assert result.exit_code == 0, result.output
    assert config.rate == 0.5 and config.net.depth == 3


def test_help_is_the_docstring_with_what_the_presets_say():
    text = " ".join(run("--help")[0].output.split())
    for words in (
        "--preset, --cfg [a|b] Where to start [default: a]",
        "--width INTEGER RANGE Width of the tokens; sets net.width and critic.width"
        " [default: a: 64; b: 16] [x>=8]",
        "--weight FLOAT RANGE A weight [default: 1, then 2] [x>=0]",
        "--lr FLOAT RANGE Learning rate [default: a: none; b: 0.5] [0<x<=1]",
        "--kind [x|y] Kind [default: what fits]",
        "--flip [0|1] Flip [default: 1]",
        "--people LIST People --",
        "--names LIST Names --",
        "--views LIST Views [default: 1,2]",
        "--size N|WXH Size [default: 4x4]",
    ):
        assert words in text, text
    assert "Much more" not in text and "--depth" not in text


def test_a_command_may_take_few_of_a_configs_options():
    options = ConfigOptions(Train, PRESETS, "b", only=("preset", "net.width"))

    @cli.command(moving=False)
    @options
    def main(preset, width):
        """Do it."""
        start = options.start({"preset": preset})
        click.echo(options.apply(start, {"width": width}).net.width)

    assert CliRunner().invoke(main, []).output.splitlines() == ["16"]
    assert CliRunner().invoke(main, ["--cfg=a", "--width=9"]).output.splitlines() == ["9"]
    text = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    assert "Where to start [default: b]" in text and "--lr" not in text and "critic" not in text
    with pytest.raises(ValueError, match="Train has no option for net.depth"):
        ConfigOptions(Train, PRESETS, "b", only=("net.depth",))


def test_an_option_needs_a_type_that_can_be_typed():
    @dataclass(frozen=True)
    class Odd:
        value: Annotated[dict, Option()] = field(default_factory=dict)

    with pytest.raises(TypeError, match="value is of type .*dict.*, which no option can give"):
        ConfigOptions(Odd, {"a": Odd()}, "a")(lambda: None)


@pytest.mark.parametrize("module", TRAININGS, ids=lambda module: module.__name__[-8:])
def test_options_of_trainings_are_declared_by_their_fields_alone(module):
    """A command that declared one again would have it twice."""
    flags = [flag for param in module.main.params for flag in param.opts]
    assert len(flags) == len(set(flags))
    made = {
        param.opts[0]
        for param in module.main.params
        if isinstance(param, config_options.FieldOption)
    }
    assert made == set(module.OPTIONS.fields) and len(made) > 10
    assert all(len(param.help) > 20 for param in module.main.params if param.opts[0] in made)


@pytest.mark.parametrize("module", TRAININGS, ids=lambda module: module.__name__[-8:])
def test_presets_of_trainings_lie_in_their_ranges(module):
    for name, config in module.OPTIONS.presets.items():
        config_json.check_ranges(config)
        assert module.OPTIONS.apply(config, {}) == config and config.preset == name


def test_every_option_of_a_field_has_a_sentence_of_help():
    for command in (*OTHERS, *TRAININGS):
        for fields in command.OPTIONS.fields.values():
            for each in fields:
                assert each.name in {f.name for f in dataclasses.fields(each.owner)}
                assert each.name in config_options.docstrings(each.owner), each.key


@pytest.mark.parametrize("module", OTHERS, ids=lambda module: module.__name__[-8:])
def test_what_help_calls_the_default_is_what_a_command_takes(module):
    """Of all other commands: nothing given is the config that help shows."""
    (config,) = module.OPTIONS.presets.values()
    config_json.check_ranges(config)
    assert module.OPTIONS.apply(config, {}) == config
