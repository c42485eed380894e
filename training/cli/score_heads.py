"""``python scripts/calc_metrics.py heads --network=RUN``: figures of heads that need no network."""

import json
from pathlib import Path

import click

from gghead.cli.common import network_option, trunc_option
from gghead.torch_utils import cli


@cli.command()
@network_option()
@click.option(
    "--seeds", type=cli.IntRangeList(), default="0-31", show_default=True, help="Of the heads"
)
@click.option(
    "--data",
    metavar="ZIP|DIR",
    help="Also measure these images, to compare with  [default: heads only]",
)
@click.option(
    "--max-images",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Look at only the first so many images of the data",
)
@trunc_option(default=1.0)
@click.option(
    "--size",
    type=click.IntRange(min=32),
    help="Pixels of a view; data are reduced to it  [default: 256, or the training size if larger]",
)
@click.option(
    "--views",
    type=click.IntRange(min=1),
    default=24,
    show_default=True,
    help="Cameras of the turn that looks for holes",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures of every head to this file",
)
@cli.device()
def main(
    network: str,
    seeds: list[int],
    data: str | None,
    max_images: int,
    trunc: float,
    size: int | None,
    views: int,
    json_path: Path | None,
    device: str,
) -> None:
    """Measure what goes wrong with heads: eyes that do not match, holes, and unpainted backs.

    \b
    python scripts/calc_metrics.py heads --network=demo --seeds=0-31
    python scripts/calc_metrics.py heads --network=RUN --data=heads.zip --json=heads.json

    No reference network is needed. The figures of the data say what can be reached; docs/metrics.md
    says how each is measured.
    """
    if json_path is not None:
        cli.check_writable(json_path, "--json")
    from gghead.cli.common import default_size, find_network, pick_device, short_name

    network = find_network(network, "generator")
    import gghead
    from gghead.data import ImageDataset
    from gghead.torch_utils.files import write_atomically
    from gghead.torch_utils.progress import progress
    from gghead.training.metrics import heads

    model = gghead.load(network, device=pick_device(device), kind="generator")
    side = default_size(model, size)
    dataset = None
    if data is not None:
        with progress(f"Reading {data}"):
            dataset = ImageDataset(data, max_images=max_images)
        dataset = dataset.resize(min(dataset.image_size, side))
    name = short_name(network)
    records = {name: heads.score_seeds(model, seeds, psi=trunc, size=side, views=views)}
    shown = f"{len(seeds)} heads of {name} at {side} pixels, psi {trunc:g}"
    if dataset is not None and data is not None:
        title = Path(data).name if Path(data).name != name else data
        records[title] = heads.score_images(dataset)
        shown += f"; {len(records[title])} images of {title} at {dataset.resolution} pixels"
    summaries = {key: heads.summary(found) for key, found in records.items()}
    click.echo(shown)
    click.echo(heads.table(summaries))
    if json_path is not None:
        report = {
            "network": network,
            "psi": trunc,
            "size": side,
            "views": views,
            "data": data,
            "data_size": None if dataset is None else dataset.resolution,
            "summary": summaries,
            "records": records,
        }
        text = (json.dumps(report, indent=1) + "\n").encode()
        write_atomically(json_path, lambda file: file.write(text))
        click.echo(json_path)
