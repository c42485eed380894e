"""Frozen dataclasses to JSON and back; an unknown key is an error that names the nearest match.

A field says in its annotation which numbers it takes and which command-line option sets it:

    batch: Annotated[int, Range(1), Option(resume=False)] = 32

Its docstring is the option's help (``gghead.torch_utils.config_options``).
"""

import dataclasses
import difflib
import functools
import re
import types
import typing
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from gghead.torch_utils.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
_NAME = re.compile(r"\{([a-z0-9_.=]+)\}")


class ConfigError(UserError):
    """A config that cannot be: one sentence, in which keys of the config stand in braces.

    ``ConfigError("{rates.decoder}=0 needs {init}.")`` says ``rates.decoder=0 needs init.``; a
    command says it again with the names of its options.
    """

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__(self.spell({}))

    def spell(self, names: dict[str, str]) -> str:
        """The sentence with ``names`` (key -> name); other keys are named as they are."""
        return _NAME.sub(lambda found: names.get(found[1], found[1]), self.sentence)


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a field takes; of a list, every number."""

    min: float | None = None
    """Smallest one."""
    max: float | None = None
    """Largest one."""
    above: bool = False
    """Whether ``min`` itself is left out."""

    def fault(self, value: float) -> str | None:
        """What is wrong with ``value``, to be put behind its name, or None.

        NaN lies in no range.
        """
        low = self.min is None or (value > self.min if self.above else value >= self.min)
        if low and (self.max is None or value <= self.max):
            return None
        if self.min is None:
            must = f"be at most {self.max:g}"
        elif self.above:
            must = f"be above {self.min:g}" + (
                "" if self.max is None else f" and at most {self.max:g}"
            )
        elif self.max is not None:
            must = f"lie between {self.min:g} and {self.max:g}"
        else:
            must = "not be negative" if self.min == 0 else f"be at least {self.min:g}"
        return f"must {must}, but it is {value}."


class Option:
    """The command-line option of a field; options of one name in one config are one option."""

    def __init__(
        self,
        *names: str,
        metavar: str | None = None,
        default: str | None = None,
        resume: bool = False,
        form: typing.Literal["resolution", "names and ranges", "degrees", "matrix"] | None = None,
    ) -> None:
        """Describe an option.

        Args:
            names: Spellings such as ``--gamma``, the usual one first; none: the field's own name.
            metavar: What help shows for the value.
            default: What help says holds without the option, in place of the presets' values.
            resume: Whether a resumed run takes it.
            form: How the value is typed where the type does not say it: a resolution is ``64`` or
                ``320x240``; of names, ranges of numbers such as ``108-119`` may stand among them;
                an angle in radians is typed in degrees; a matrix is 16 numbers or a file of them.
        """
        self.names, self.metavar, self.default = names, metavar, default
        self.resume, self.form = resume, form


NO_OPTIONS = "no options"
"""Annotation of a section none of whose fields are options of this config."""


@dataclasses.dataclass(frozen=True)
class Field:
    """A field by its place in a config."""

    key: str
    """Path such as ``loss.r1_gamma``; one into a list of sections means all of them."""
    owner: type
    """The dataclass that declares it."""
    kind: Any
    """Its type."""
    notes: tuple
    """What its annotation says beside the type."""

    @property
    def name(self) -> str:
        """Its name in ``owner``."""
        return self.key.rpartition(".")[2]

    def note(self, kind: type) -> Any:
        """The first note of this kind, or None."""
        return next((note for note in self.notes if isinstance(note, kind)), None)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _split(hint: Any) -> tuple[Any, tuple]:
    """An annotation -> its type and its notes."""
    if typing.get_origin(hint) is typing.Annotated:
        return hint.__origin__, hint.__metadata__
    return hint, ()


def _section(kind: Any) -> type | None:
    """The dataclass of a section or of a list of them."""
    if typing.get_origin(kind) is tuple:
        kind = typing.get_args(kind)[0]
    return kind if dataclasses.is_dataclass(kind) and isinstance(kind, type) else None


def walk(cls: type, prefix: str = "") -> Iterator[Field]:
    """Every field of ``cls`` that is no section, in order, except in ``NO_OPTIONS``."""
    for name, hint in _hints(cls).items():
        kind, notes = _split(hint)
        section = _section(kind)
        if section is None:
            yield Field(prefix + name, cls, kind, notes)
        elif NO_OPTIONS not in notes:
            yield from walk(section, f"{prefix}{name}.")


def to_dict(config: object) -> Any:
    """Return plain JSON types (dict, list, str, numbers, None) for a dataclass, recursively."""
    if dataclasses.is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, (list, tuple)):
        return [to_dict(item) for item in config]
    if isinstance(config, dict):
        return {key: to_dict(item) for key, item in config.items()}
    return config


def from_dict(cls: type[Config], values: dict[str, Any], where: str = "config") -> Config:
    """Build the dataclass ``cls`` from plain values.

    Raises ``UserError`` for a key that ``cls`` does not have (with the nearest match), one that it
    needs and that is not there, or a value of the wrong kind or out of its range.
    """
    if not isinstance(values, dict):
        raise UserError(
            f"{where} must be a mapping of options, but it is a {type(values).__name__}."
        )
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = _hints(cls)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = (
                f"did you mean '{near[0]}'?"
                if near
                else f"known keys: {', '.join(sorted(fields))}."
            )
            raise UserError(f"{where} has no key '{key}'; {hint}")
    missing = [
        name
        for name, f in fields.items()
        if name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(
            f"{where} lacks the key '{missing[0]}'; add it, or restore the file from a copy."
        )
    config = cls(
        **{key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    )
    check_ranges(config, where)
    return config


def check_ranges(config: Any, where: str = "") -> None:
    """Raise ``UserError`` for the first number of a dataclass that is out of its ``Range``.

    Sections are included.
    """
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        at = f"{where}.{name}" if where else name
        limits = next((note for note in _split(hint)[1] if isinstance(note, Range)), None)
        items = value if isinstance(value, tuple) else (value,)
        for index, item in enumerate(items):
            place = f"{at}[{index}]" if isinstance(value, tuple) else at
            if dataclasses.is_dataclass(item):
                check_ranges(item, place)
            elif limits is not None and item is not None and (fault := limits.fault(item)):
                raise UserError(f"{place} {fault}")


def replace(config: Config, values: dict[str, Any], where: str = "config") -> Config:
    """Return ``config`` with ``values`` (nested dicts allowed) put over it.

    The same errors as ``from_dict``. A dict that meets a list of sections is put over each.
    """
    merged = to_dict(config)
    _merge(merged, to_dict(values))
    return from_dict(type(config), merged, where)


def _merge(base: dict, over: dict) -> None:
    for key, value in over.items():
        there = base.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            _merge(there, value)
        elif isinstance(value, dict) and isinstance(there, list) and there and _are_dicts(there):
            for section in there:
                _merge(section, value)
        else:
            base[key] = value


def _are_dicts(items: list) -> bool:
    return all(isinstance(item, dict) for item in items)


def nest(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """``[("loss.l1", 2.0)]`` -> ``{"loss": {"l1": 2.0}}``, for ``replace``."""
    values: dict[str, Any] = {}
    for key, value in pairs:
        for part in reversed(key.split(".")):
            value = {part: value}
        _merge(values, value)
    return values


def _convert(hint: Any, value: Any, where: str) -> Any:
    hint, _ = _split(hint)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return _convert(next(o for o in options if o is not type(None)), value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where} must be a list, but it is {value!r}.")
        item = typing.get_args(hint)[0]
        return tuple(_convert(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is typing.Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise UserError(
                f"{where} must be one of {', '.join(map(str, allowed))}, but it is {value!r}."
            )
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise UserError(f"{where} must be of type {hint.__name__}, but it is {value!r}.")
    return value
