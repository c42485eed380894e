"""Frames per second of an avatar.

``gghead benchmark avatar`` also says what blend, network and rasterizer take of a frame.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import click
import torch

from gghead.animation.frames import split_or_all
from gghead.animation.player import Player
from gghead.cli.common import pick_device
from gghead.models.avatar import Avatar, AvatarModel
from gghead.models.compression import CompressionPlan, factorize
from gghead.rendering import registry
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.machine import keep_freed_memory
from gghead.torch_utils.rng import generator
from gghead.training.avatar.data import AvatarSource, open_avatar
from gghead.training.benchmarks.beside import compare_threads
from gghead.training.benchmarks.common import describe_machine, interleaved_medians


@torch.no_grad()
def with_count(avatar: Avatar, count: int, seed: int) -> Avatar:
    """An avatar of ``count`` Gaussians that looks about the same.

    Copies stand beside their originals by a random standard deviation. All are so much smaller (or,
    for fewer, larger) that the area covered is the same.
    """
    rng, number = generator(seed, "benchmark", count), avatar.num
    order = torch.cat(
        [torch.randperm(number, generator=rng) for _ in range(math.ceil(count / number))]
    )[:count]
    made = Avatar(replace(avatar.config), count=count)
    state = avatar.state_dict()
    for name, dim in avatar.per_gaussian().items():
        state[name] = state[name].cpu().index_select(dim, order)
    noise = torch.randn(max(count - number, 0), 3, generator=rng)
    state["means"][number:] += noise * state["log_scales"][number:].exp()
    state["log_scales"] += 0.5 * math.log(number / count)
    made.load_state_dict(state)
    return made.to(avatar.device).requires_grad_(False)


def time_frames(
    avatar: AvatarModel,
    source: AvatarSource,
    split: str,
    size: int,
    repeats: int,
) -> dict[str, float]:
    """Median milliseconds of blend, network, raster and whole frames along the sequence.

    The cameras are its own.
    """
    expression = source.coefficients(split).to(avatar.device)
    cameras = split_or_all(source.sequence, split).cameras.to(avatar.device)
    player, apart = Player(avatar), Player(avatar)
    extent = (size, round(size * avatar.config.image_size[1] / avatar.config.image_size[0]))
    turn = {"frame": 0, "stage": 0}
    mixture = apart.blend(expression[:1])

    def frame() -> None:
        index = turn["frame"] = (turn["frame"] + 1) % len(expression)
        player.draw(expression[index], cameras[index : index + 1], extent)

    def blend() -> None:
        nonlocal mixture
        turn["stage"] = (turn["stage"] + 1) % len(expression)
        mixture = apart.blend(expression[turn["stage"]][None])

    runs = {
        "frame": frame,
        "blend": blend,
        "network": lambda: apart.shade(mixture, cameras[turn["stage"] : turn["stage"] + 1]),
        "raster": lambda: apart.raster(cameras[turn["stage"] : turn["stage"] + 1], extent),
    }
    medians = interleaved_medians(runs, repeats, avatar.device)
    return {
        **{f"{name}_ms": value for name, value in medians.items()},
        "fps": 1000 / medians["frame"],
    }


def measure(
    network: str,
    data: str | None,
    split: str,
    gaussians: list[int],
    size: list[int],
    forms: list[str],
    device: str | torch.device,
    repeats: int,
    seed: int,
    beside: int,
) -> dict:
    """Time the avatar, print a row per count, form and size, and return the report.

    The arguments are the command's options.
    """
    device = pick_device(str(device))
    if device.type == "cpu":
        keep_freed_memory()
    source = open_avatar(network, data, device)
    if not isinstance(source.avatar, Avatar):
        raise UserError(
            f"{network} is compressed, so that no Gaussians can be added; name the one it was made"
            " from."
        )
    if source.avatar.config.changes != "appearance":
        raise UserError(
            f"The Gaussians of {network} move, so that its frames have no such parts; name another"
            " avatar."
        )
    about = describe_machine(source.avatar.device)
    backend = registry.resolve("auto", source.avatar.device, torch.float32)
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
    click.echo(
        f"{network}, degree {source.avatar.config.sh_degree}, {backend}; medians of {repeats}"
        " rounds in ms"
    )
    click.echo(
        f"{'Gaussians':>9} {'form':>10} {'bytes/G':>8} {'size':>5} {'blend':>7} {'network':>8}"
        f" {'raster':>7} {'frame':>7} {'fps':>7}"
    )
    rows = []
    for count in gaussians:
        dense = with_count(source.avatar, count, seed)
        for form in forms:
            avatar = dense if form == "dense" else _compress(dense, source)
            for pixels in size:
                row = {
                    "gaussians": count,
                    "form": form,
                    "bytes_per_gaussian": avatar.nbytes / count,
                    "size": pixels,
                    **time_frames(avatar, source, split, pixels, repeats),
                }
                rows.append(row)
                click.echo(
                    f"{count:9d} {form:>10} {row['bytes_per_gaussian']:8.0f} {pixels:5d}"
                    f" {row['blend_ms']:7.2f} {row['network_ms']:8.2f} {row['raster_ms']:7.2f}"
                    f" {row['frame_ms']:7.2f} {row['fps']:7.1f}"
                )
    report = {"machine": about, "rows": rows}
    if beside:
        frame = _frames(avatar, source, split, size[-1])
        report["beside"] = compare_threads(frame, beside, repeats)
    return report


def _frames(
    avatar: AvatarModel, source: AvatarSource, split: str, size: int
) -> Callable[[], object]:
    """Draws the next frame of the sequence with every call."""
    expression = source.coefficients(split).to(avatar.device)
    cameras = split_or_all(source.sequence, split).cameras.to(avatar.device)
    player, numbers = Player(avatar), itertools.cycle(range(len(expression)))
    extent = (size, round(size * avatar.config.image_size[1] / avatar.config.image_size[0]))

    def draw() -> None:
        index = next(numbers)
        player.draw(expression[index], cameras[index : index + 1], extent)

    return draw


def _compress(avatar: Avatar, source: AvatarSource) -> AvatarModel:
    expression = source.coefficients("train")
    return factorize(avatar, expression, CompressionPlan()).quantize(8).requires_grad_(False)
