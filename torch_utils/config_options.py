"""Command-line options of a config: its fields are their only declaration.

A field with an ``Option`` in its annotation becomes a click option. Its type says what is typed (a
``Literal`` is a choice, a bool a switch, a tuple a comma list), its ``Range`` what is taken, its
docstring is the help (its first paragraph), and the presets give the default that help shows.
"""

import ast
import functools
import inspect
import json
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic

import click

from gghead.torch_utils import cli
from gghead.torch_utils import config as config_json
from gghead.torch_utils.config import Config, ConfigError, Field, Option, Range
from gghead.torch_utils.errors import UserError

_PRESET = "preset"
_MOST_GROUPS = 3  # of presets with one value each, in a line of help


class ConfigOptions(Generic[Config]):
    """The options of the config ``cls``; as a decorator it gives them to a command.

    The command gets them by their names, None where they are not given. A field ``preset`` is a
    choice of ``presets``, if there are any; without, help shows the fields' own defaults. A
    ``ConfigError`` of the command is said with the options' names.
    """

    def __init__(
        self,
        cls: type[Config],
        presets: dict[str, Config] | None = None,
        preset: str | None = None,
        names: dict[str, str] | None = None,
        only: Iterable[str] | None = None,
    ) -> None:
        """Collect the fields.

        Args:
            cls: The frozen dataclass.
            presets: Name -> config.
            preset: The one that is taken without ``--preset``; None: the command chooses.
            names: What a ``ConfigError`` calls keys that have no option.
            only: The keys of the fields that are taken, for a command that needs few of them;
                None: all that have an option.

        Raises ``ValueError`` for a key of ``only`` that has none.
        """
        self.presets, self.preset = presets or {"": cls()}, preset
        self.fields: dict[str, list[Field]] = {}
        for field in config_json.walk(cls):
            if field.note(Option) is not None and (only is None or field.key in only):
                self.fields.setdefault(_flag(field), []).append(field)
        self.flags = (names or {}) | {
            field.key: flag for flag, fields in self.fields.items() for field in fields
        }
        """Key -> spelling of its option, such as ``loss.r1_gamma`` -> ``--gamma``."""
        if without := set(only or ()) - self.flags.keys():
            raise ValueError(f"{cls.__name__} has no option for {', '.join(sorted(without))}.")

    def __call__(self, function: Callable) -> Callable:
        """Decorate a command."""

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except ConfigError as error:
                raise UserError(error.spell(self.flags)) from error

        for fields in reversed(self.fields.values()):
            wrapper = self._option(fields)(wrapper)
        return wrapper

    def start(self, options: dict) -> Config:
        """The preset that the options name."""
        name = options[_PRESET] or self.preset
        if name is None:
            raise ValueError("No preset is named, and none is taken without a name.")
        return self.presets[name]

    def changes(self, options: dict) -> dict[str, Any]:
        """The options that are given -> nested values for ``config.replace``."""
        return config_json.nest(
            (field.key, options[_name(flag)])
            for flag, fields in self.fields.items()
            for field in fields
            if field.key != _PRESET and options.get(_name(flag)) is not None
        )

    def apply(self, config: Config, options: dict) -> Config:
        """``config`` with the options that are given, and with ``--set``.

        Raises ``UserError`` for values that it cannot have.
        """
        config = config_json.replace(config, self.changes(options), "the options")
        return assign(config, options.get("set") or ())

    def is_given(self, options: dict, key: str) -> bool:
        """Whether the user chose the value of ``key``, by its option or by ``--set``."""
        return options.get(_name(self.flags[key])) is not None or any(
            pair.startswith(f"{key}=") for pair in options.get("set") or ()
        )

    def refuse_with_resume(self, options: dict, others: Iterable[str] = (), hint: str = "") -> None:
        """Raise ``UserError`` for an option that a resumed run does not take.

        It is one whose field says so, or one of the ``others``. ``hint`` ends the sentence.
        """
        allowed = {"set", *others} | {
            _name(flag)
            for flag, fields in self.fields.items()
            if any(field.note(Option).resume for field in fields)
        }
        for name, value in options.items():
            if value is not None and value != () and name not in allowed:
                raise UserError(
                    "--resume continues a run with its own options; leave out"
                    f" --{name.replace('_', '-')}{hint}."
                )

    def _option(self, fields: list[Field]) -> Callable:
        field = fields[0]
        option = field.note(Option)
        names = [_flag(field), *option.names[1:]]
        kind: Any = _param_type(field, option)
        if field.key == _PRESET:
            kind = click.Choice(list(self.presets))
        settings: dict[str, Any] = {
            "sentence": functools.partial(self._help, fields),
            "arguments": tuple(each.key for each in fields if "." not in each.key),
        }
        if kind is click.BOOL:
            return cli.switch(*names, cls=_FieldSwitch, **settings)
        if option.metavar is not None:
            settings["metavar"] = option.metavar
        return click.option(*names, cls=FieldOption, type=kind, **settings)

    def _help(self, fields: list[Field]) -> str:
        field = fields[0]
        text = docstrings(field.owner).get(field.name, "").replace("``", "").rstrip(".")
        if len(fields) > 1:
            text += f"; sets {' and '.join(each.key for each in fields)}"
        option = field.note(Option)
        default, between = option.default, "x" if option.form == "resolution" else ","
        if field.key == _PRESET:
            default = self.preset or default
        elif default is None:
            default = self._defaults(field.key, between)
        return f"{text}  [default: {default}]" if default else text

    def _defaults(self, key: str, between: str) -> str:
        """What the presets say, each value with the presets that have it."""
        groups: dict[str, list[str]] = {}
        for name, config in self.presets.items():
            groups.setdefault(_show(config, key.split("."), between), []).append(name)
        if len(groups) == 1:
            return next(iter(groups))
        if len(groups) > _MOST_GROUPS:
            return "the preset's"
        return "; ".join(
            f"{', '.join(names)}: {value or 'none'}" for value, names in groups.items()
        )


def assign(config: Config, pairs: Iterable[str]) -> Config:
    """Apply the texts of ``--set``, each ``key.path=value``; values are JSON, or plain text.

    Raises ``UserError`` for another form and for what ``config.from_dict`` refuses.
    """
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator:
            raise UserError(
                f"--set={pair} must have the form key=value, e.g. --set=loss.blur_sigma=5."
            )
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        config = config_json.replace(config, config_json.nest([(key, value)]), "--set")
    return config


@functools.cache
def docstrings(cls: type) -> dict[str, str]:
    """Field -> the first paragraph of its docstring, the string that follows it in the source."""
    tree = ast.parse(Path(inspect.getfile(cls)).read_text("utf-8"))
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef) or node.name != cls.__name__:
            continue
        for field, after in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                paragraph = inspect.cleandoc(after.value.value).partition("\n\n")[0]
                found[field.target.id] = " ".join(paragraph.split())
    return found


def _flag(field: Field) -> str:
    """``--gen-pose-cond``: the usual spelling of a field's option."""
    return (*field.note(Option).names, f"--{field.name.replace('_', '-')}")[0]


def _name(flag: str) -> str:
    """``--gen-pose-cond`` -> ``gen_pose_cond``: what click calls it."""
    return flag.lstrip("-").replace("-", "_")


def _show(config: Any, parts: list[str], between: str) -> str:
    """The value at a key, as it would be typed, with ``between`` between items; "" for none."""
    if isinstance(config, tuple) and parts:
        return ", then ".join(dict.fromkeys(_show(item, parts, between) for item in config))
    if parts:
        return _show(getattr(config, parts[0]), parts[1:], between)
    if isinstance(config, bool):
        return str(int(config))
    if isinstance(config, tuple):
        return between.join(_show(item, [], between) for item in config)
    if isinstance(config, float):
        return f"{config:g}"
    return "" if config is None else str(config)


def _param_type(field: Field, option: Option) -> click.ParamType:
    """The click type of a field's type."""
    kind = field.kind
    args = [arg for arg in typing.get_args(kind) if arg is not type(None)]
    if type(None) in typing.get_args(kind):
        kind = args[0]
        args = [*typing.get_args(kind)]
    limits = field.note(Range)
    if option.form == "resolution":
        low, high = (None, None) if limits is None else (limits.min, limits.max)
        return cli.Resolution(kind is int, int(low or 1), None if high is None else int(high))
    if option.form == "degrees":
        return cli.Degrees()
    if option.form == "matrix":
        return cli.Matrix()
    if typing.get_origin(kind) is typing.Literal:
        return click.Choice(args)
    if typing.get_origin(kind) is tuple:
        if args[0] is str:
            return _Names(option.form == "names and ranges")
        items = cli.IntRangeList() if args[0] is int else cli.FloatList()
        return items if limits is None else _Numbers(items, limits)
    if kind is int:
        return click.INT if limits is None else IntRange(limits)
    if kind is float:
        return click.FLOAT if limits is None else FloatRange(limits)
    if kind is Path:
        return click.Path(path_type=Path)
    if kind in (bool, str):
        return click.BOOL if kind is bool else click.STRING
    raise TypeError(f"{field.key} is of type {kind}, which no option can give.")


class FieldOption(click.Option):
    """An option whose help is read when it is asked for."""

    def __init__(
        self, *args: Any, sentence: Callable[[], str], arguments: tuple[str, ...], **settings: Any
    ) -> None:
        """``arguments``: the config's own fields that it sets.

        They are called as in the library's sentences.
        """
        self._sentence, self.arguments = sentence, arguments
        super().__init__(*args, **settings)

    @property
    def help(self) -> str | None:
        """The sentence of the field."""
        return self._sentence()

    @help.setter
    def help(self, text: str | None) -> None:
        """click sets what it was given, which is nothing."""


class _FieldSwitch(FieldOption, cli._Switch):
    """The same, a truth value."""


class _Names(click.ParamType):
    """``anna,ben`` -> names, with ``ranges`` also ``108-119``; ``none`` -> no names."""

    name = "list"

    def __init__(self, ranges: bool) -> None:
        self._ranges = ranges

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the names; what is no text is returned as it is."""
        if not isinstance(value, str):
            return value
        if value.strip() == "none":
            return []
        if self._ranges:
            return cli.expand(value)
        return [part.strip() for part in value.split(",") if part.strip()]


class IntRange(click.IntRange):
    """Whole numbers of a ``Range``, in whose words others are refused."""

    def __init__(self, limits: Range) -> None:
        low = None if limits.min is None else int(limits.min)
        super().__init__(low, None if limits.max is None else int(limits.max), limits.above)
        self.limits = limits

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        return _inside(self.limits, click.INT.convert(value, param, ctx), param, ctx)


class FloatRange(click.FloatRange):
    """Numbers of a ``Range``, likewise."""

    def __init__(self, limits: Range) -> None:
        super().__init__(limits.min, limits.max, limits.above)
        self.limits = limits

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        return _inside(self.limits, click.FLOAT.convert(value, param, ctx), param, ctx)


class _Numbers(click.ParamType):
    """A list of numbers of a ``Range``, likewise."""

    def __init__(self, items: click.ParamType, limits: Range) -> None:
        self.name, self._items, self._limits = items.name, items, limits

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the numbers."""
        numbers = self._items.convert(value, param, ctx)
        return [_inside(self._limits, number, param, ctx) for number in numbers]


def _inside(
    limits: Range, number: float, param: click.Parameter | None, ctx: click.Context | None
) -> float:
    fault = limits.fault(number)
    if fault is not None:
        raise click.UsageError(f"{_option_name(param)} {fault}", ctx)
    return number


def _option_name(param: click.Parameter | None) -> str:
    return param.opts[0] if param is not None else "The value"
