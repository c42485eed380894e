"""Options that a command declares by hand although a config that it makes has a field for them."""

import ast
import dataclasses
import importlib
import inspect
import types
import typing
from pathlib import Path

import click

from gghead.torch_utils import config as config_json
from gghead.torch_utils.config import Option
from gghead.torch_utils.config_options import FieldOption

_PLAIN = (int, float, str, bool, Path, type(None))


def declared_twice(command: click.Command) -> list[str]:
    """``--flag (Config.field)`` for every such option."""
    assert command.callback is not None
    module = importlib.import_module(inspect.unwrap(command.callback).__module__)
    fields = [(cls, field) for cls in configs(module) for field in config_json.walk(cls)]
    found = {}
    for param in command.params:
        if isinstance(param, click.Option) and not isinstance(param, FieldOption):
            for cls, field in fields:
                if {param.name, *param.opts} & spellings(field) and same_kind(param, field):
                    found[max(param.opts, key=len)] = f"{cls.__name__}.{field.key}"
    return [f"{flag} ({field})" for flag, field in found.items()]


def configs(module: types.ModuleType) -> list[type]:
    """The configs that a module makes, ``Config(...)``, or whose options are those of its command,
    ``ConfigOptions(Config)``; one of which it takes ``only`` some options is used for those."""
    tree = ast.parse(inspect.getsource(module))
    homes = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        for alias in node.names
    }
    homes |= {
        node.name: (module.__name__, node.name)
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    made = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            made.add(node.func.id)
            some = any(keyword.arg == "only" for keyword in node.keywords)
            if node.func.id == "ConfigOptions" and not some and isinstance(node.args[0], ast.Name):
                made.add(node.args[0].id)
    found = [
        getattr(importlib.import_module(home), name, None)
        for home, name in (homes[name] for name in sorted(made & homes.keys()))
    ]
    return [cls for cls in found if isinstance(cls, type) and is_config(cls)]


def is_config(cls: type) -> bool:
    """Whether all that a class holds could be typed; one with arrays is data."""
    return dataclasses.is_dataclass(cls) and all(
        is_plain(field.kind) for field in config_json.walk(cls)
    )


def is_plain(kind: object) -> bool:
    """Whether values of this type are numbers, words, or lists of such."""
    if typing.get_origin(kind) is typing.Literal:
        return True
    parts = [part for part in typing.get_args(kind) if part is not Ellipsis]
    return all(map(is_plain, parts)) if parts else kind in (*_PLAIN, list, tuple)


def spellings(field: config_json.Field) -> set[str]:
    """What an option of the field may be called."""
    option = field.note(Option)
    names = set() if option is None else set(option.names)
    return names | {field.name, f"--{field.name.replace('_', '-')}"}


def same_kind(param: click.Option, field: config_json.Field) -> bool:
    """Whether an option takes what the field takes: not words for a number, nor a list of numbers,
    each of which a benchmark tries, for one."""
    kinds = typing.get_args(field.kind) if isinstance(field.kind, types.UnionType) else [field.kind]
    number = not {int, float}.isdisjoint(kinds)
    if isinstance(param.type, click.Choice) and number:
        return False
    return not (number and type(param.type).__name__ in ("IntRangeList", "FloatList"))
