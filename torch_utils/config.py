"""Frozen dataclasses to JSON and back; an unknown key is an error that names the nearest match."""

import dataclasses
import difflib
import types
import typing
from typing import TYPE_CHECKING, Any, TypeVar

from gghead.torch_utils.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


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
    needs and that is not there, or a value of the wrong kind.
    """
    if not isinstance(values, dict):
        raise UserError(
            f"{where} must be a mapping of options, but it is a {type(values).__name__}."
        )
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
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
    return cls(
        **{key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    )


def replace(config: Config, values: dict[str, Any], where: str = "config") -> Config:
    """Return ``config`` with ``values`` (nested dicts allowed) put over it; the same errors as
    ``from_dict``."""
    merged = to_dict(config)
    _merge(merged, to_dict(values))
    return from_dict(type(config), merged, where)


def _merge(base: dict, over: dict) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _convert(hint: Any, value: Any, where: str) -> Any:
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
