"""Sentences of the library in the words of a command: its options instead of Python's arguments."""

import re

import click

_ARGUMENT = re.compile(r"`(\w+)(?:=([^`]*))?`")
_VALUES = {"True": "1", "False": "0", "None": "none"}


def in_flags(text: str) -> str:
    """Return ``text`` with arguments spelled as the user types them.

    Those that are options of the running command are: "`skip_missing=True`" becomes
    "--skip-missing=1".

    Arguments that the command has no option for stay as they are, as all do outside a command.
    """
    context = click.get_current_context(silent=True)
    params = [] if context is None else context.command.params
    flags = {}
    for param in params:
        if param.opts:
            spelling = max(param.opts, key=len)
            flags[param.name] = spelling
            for name in getattr(param, "arguments", ()):  # a field may have another name
                flags.setdefault(name, spelling)

    def flag(found: re.Match) -> str:
        name, value = found.groups()
        if name not in flags:
            return found[0]
        if value is None:
            return flags[name]
        return f"{flags[name]}={_VALUES.get(value, value.strip(chr(39) + chr(34)))}"

    return _ARGUMENT.sub(flag, text)
