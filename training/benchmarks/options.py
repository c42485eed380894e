"""Options that several benchmarks have, and the report that ``--json`` asks for; light, so that
help is quick."""

import json
from pathlib import Path

import click

threads = click.option(
    "--threads", type=click.IntRange(1), help="torch threads  [default: torch's own choice]"
)
beside = click.option(
    "--beside",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="also time it beside N busy processes, with one, all and chosen threads",
)
json_path = click.option(
    "--json", "json_path", type=click.Path(dir_okay=False), help="write the figures to this file"
)


def write(path: str | None, report: dict) -> None:
    """Write ``report`` to ``--json``, where it was given, and say so."""
    if path:
        Path(path).write_text(json.dumps(report, indent=2) + "\n")
        click.echo(f"wrote {path}")
