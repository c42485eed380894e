"""How good an avatar is on the frames it has not seen: all of them, mouth and eyes, the side.

All images are put over white by the data's masks and have the avatar's size. Mouth and eyes are
measured apart where the sequence has the 68 landmarks of iBUG, in boxes around their projections,
and so are the frames seen from farthest to the side.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.animation.frames import Frames
from gghead.animation.show import avatar_images
from gghead.cameras import Cameras
from gghead.figures import beside, to_uint8, with_labels
from gghead.image_metrics import psnr, ssim
from gghead.models.avatar import AvatarModel
from gghead.perceptual import Distance
from gghead.torch_utils.files import write_atomically
from gghead.torch_utils.progress import progress, track
from gghead.training.gan import images
from gghead.video import save_video

REGIONS = {"mouth": slice(48, 68), "eyes": slice(36, 48)}  # of 68 landmarks
_MARGIN = 0.3  # of a region's box, on every side
_NEAREST_SIZE = 64  # pixels at which the nearest frame is looked for
_SIDE = 0.25  # share of the frames, those seen from farthest to the side, that are averaged apart
_WORST = 6


def score(
    avatar: AvatarModel,
    test: Frames,
    train: Frames | None,
    networks: Mapping[str, Distance] | None = None,
) -> tuple[dict, list]:
    """Means per method {"avatar", "nearest_frame", "mean_image"} and one record per test frame.

    The nearest frame is the training frame most like the truth, which only someone who knows the
    truth could choose: a stronger opponent than the frame with the nearest coefficients. Without
    training frames there is only the avatar. ``networks``: what else is measured, by the names that
    it gets, such as "lpips".
    """
    if train is not None:
        with progress("Finding the nearest training frames"):
            mean = torch.stack([train.over(index) for index in range(len(train))]).mean(0)
            nearest = nearest_frames(test, train)
    records, side = [], side_frames(test.cameras)
    shown = avatar_images(avatar, test.expression, test.cameras, test.size)
    for index, image in enumerate(track(shown, "Scoring", len(test), "frames")):
        truth, boxes = test.over(index), region_masks(test, index)
        record, guesses = {"frame": test.sequence.name(index)}, {"avatar": image.cpu()}
        if train is not None:
            record["nearest"] = train.sequence.name(nearest[index])
            guesses |= {"nearest_frame": train.over(nearest[index]), "mean_image": mean}
        records.append(
            record
            | {
                method: compare(guess, truth, boxes, networks, aside=index in side)
                for method, guess in guesses.items()
            }
        )
    methods = ("avatar", "nearest_frame", "mean_image") if train is not None else ("avatar",)
    means = {
        method: {
            key: float(np.mean([r[method][key] for r in records if key in r[method]]))
            for key in sorted({key for r in records for key in r[method]})
        }
        for method in methods
    }
    return means, records


def side_frames(cameras: Cameras) -> set[int]:
    """The quarter of the cameras (batch shape (T,)) farthest off their middle.

    What counts is the direction from the head.
    """
    place = cameras.position
    aside = torch.atan2(place[:, 0], place[:, 2]).abs()
    return set(
        aside.argsort(descending=True, stable=True)[: max(round(_SIDE * len(aside)), 1)].tolist()
    )


def compare(
    guess: Tensor,
    truth: Tensor,
    boxes: dict[str, Tensor],
    networks: Mapping[str, Distance] | None = None,
    *,
    aside: bool = False,
) -> dict:
    """PSNR, SSIM and L2 of an image [3, H, W], and more.

    PSNR and SSIM in the boxes, and the distances of ``networks``.

    With ``aside`` (one of ``side_frames``) PSNR counts as that of frames from the side, too.
    """
    values = {
        "psnr": float(psnr(guess, truth)),
        "ssim": float(ssim(guess, truth)),
        "l2": float((guess - truth).square().mean()),
    }
    for name, box in boxes.items():
        values[f"{name}_psnr"], values[f"{name}_ssim"] = (
            float(psnr(guess, truth, box)),
            float(ssim(guess, truth, box)),
        )
    if aside:
        values["side_psnr"] = values["psnr"]
    for name, network in (networks or {}).items():
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        pair = [(image[None] * 2 - 1).to(device) for image in (guess, truth)]
        with torch.no_grad():
            values[name] = float(network(*pair).mean())
    return values


def nearest_frames(test: Frames, train: Frames) -> list[int]:
    """For every test frame the training frame with the least squared difference.

    They are compared at a size of at most 64 pixels.
    """
    a, b = (torch.stack(list(_small(frames))) for frames in (test, train))
    distances = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return distances.argmin(1).tolist()


def _small(frames: Frames) -> Iterator[Tensor]:
    for index in range(len(frames)):
        image = frames.over(index)
        factor = max(max(image.shape[1:]) // _NEAREST_SIZE, 1)
        yield F.avg_pool2d(image[None], factor).flatten().double()


def region_masks(frames: Frames, index: int) -> dict[str, Tensor]:
    """Boxes [1, H, W] of ones around mouth and eyes.

    Empty without 68 landmarks or where a region is out of sight.
    """
    landmarks = frames.sequence.landmarks
    if landmarks is None or landmarks.shape[1] != 68:
        return {}
    return region_boxes(landmarks[index], frames.camera(index), frames.size)


def region_boxes(landmarks: Tensor, camera: Cameras, size: tuple[int, int]) -> dict[str, Tensor]:
    """The same for landmarks [68, 3] in world units.

    The camera has batch shape (1,), images are of (width, height).
    """
    width, height = size
    pixels = camera[0].project(landmarks.float())[0] * torch.tensor([width, height])
    masks = {}
    for name, rows in REGIONS.items():
        low, high = pixels[rows].amin(0), pixels[rows].amax(0)
        margin = _MARGIN * (high - low).max()
        left, top = (low - margin).clamp_min(0).floor().int().tolist()
        right, bottom = (high + margin).ceil().int().tolist()
        mask = torch.zeros(1, height, width)
        mask[:, top : max(bottom, 0), left : max(right, 0)] = 1
        if bool(mask[:, 5:-5, 5:-5].any()):  # SSIM has no values at the outer five pixels
            masks[name] = mask
    return masks


def table(means: dict) -> str:
    """The means as lines of text, a method each."""
    keys = list(means["avatar"])
    lines = ["".join([f"{'':<15s}", *(f"{key:>12s}" for key in keys)])]
    for method, values in means.items():
        lines.append(
            "".join([f"{method:<15s}", *(f"{values.get(key, float('nan')):12.4f}" for key in keys)])
        )
    return "\n".join(lines)


def write_report(outdir: Path, header: dict, means: dict, records: list[dict]) -> None:
    """``scores.json``: what was scored, the means, every frame."""
    text = json.dumps({**header, "results": means, "frames": records}, indent=1) + "\n"
    write_atomically(outdir / "scores.json", lambda file: file.write(text.encode()))


def write_worst(
    path: Path, avatar: AvatarModel, test: Frames, records: list[dict], count: int = _WORST
) -> None:
    """Write a sheet of the frames with the lowest PSNR.

    It shows truth, avatar and absolute difference times 3 (dark on white).
    """
    order = sorted(range(len(records)), key=lambda index: records[index]["avatar"]["psnr"])[:count]
    truth = torch.stack([test.over(index) for index in order])
    shown = torch.stack(
        [
            image.cpu()
            for image in avatar_images(
                avatar, test.expression[order], test.cameras[order], test.size
            )
        ]
    )
    error = _difference(shown, truth)
    sheet = images.make_grid(torch.cat([truth, shown, error]) * 2 - 1, (len(order), 3))
    top = [f"{records[index]['avatar']['psnr']:.1f} dB" for index in order]
    images.save_image(with_labels(sheet, top, ["truth", "avatar", "error"]), path)


def write_video(path: Path, avatar: AvatarModel, test: Frames) -> None:
    """All frames: truth, avatar, difference, side by side at the sequence's speed."""
    shown = avatar_images(avatar, test.expression, test.cameras, test.size)
    frames = []
    for index, guess in enumerate(track(shown, "Drawing the video", len(test), "frames")):
        truth = test.over(index)
        frames.append(
            beside([to_uint8(image) for image in (truth, guess, _difference(guess.cpu(), truth))])
        )
    with progress(f"Encoding {path}"):
        save_video(frames, path, test.sequence.fps or 25.0)


def _difference(guess: Tensor, truth: Tensor) -> Tensor:
    """Three times the absolute difference, dark on white."""
    return 1 - (3 * (guess - truth).abs()).clamp(0, 1)
