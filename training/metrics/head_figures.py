"""Figures of heads that need no network and no data set.

Are two eyes there, is the head closed all around, and is its back a back?

Distances between sets of images say how far away a generator is, not what is wrong. These figures
look where heads go wrong when only images judge them: eyes that split into stripes, outlines that
the background shines through, backs that no camera has seen. Places on the head are those of the
built-in template, seen through the image's camera: labels of face images put every face there.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.cameras import Cameras
from gghead.template import load_template, rasterize_triangles

OPAQUE = 0.95  # alpha from which a pixel is not see-through
WHITE = 200  # level from which on all three channels are white
_LUMA = (0.299, 0.587, 0.114)  # Rec. 601
_OUTLINE = 32  # an image's side over the width of the outline that is left out

# Around an eye, world units: patches are sampled so densely (a pixel of 256), the pair of eyes is
# looked for so far from the template's, and an eye is so large.
_STEP = 0.0025
_REACH = (0.025, 0.020)  # outwards, upwards: short of the brows
_HALF = (0.040, 0.015)
_OPENING = (0.030, 0.0075)  # half of the box in which two eyes are compared
_IRIS = 0.0115  # radius that is certainly iris; it has 0.0155
_WHITE_AT, _WHITE_RADII = 0.0235, (0.006, 0.007)  # ellipses at both sides of the iris


@dataclass(frozen=True)
class EyeFigures:
    """What the eyes of ``N`` images look like, in levels of gray of 255."""

    iris: Tensor
    """[N] how much darker the iris is than the white at its darker side, mean of both eyes."""
    weaker_iris: Tensor
    """[N] the same of the eye where it is less; low where only one eye is an eye."""
    difference: Tensor
    """[N] mean absolute difference of one eye from the mirrored other one."""


# images [N, 3, H, W] in [0, 255], cameras (N,) that look at the face
def eye_figures(images: Tensor, cameras: Cameras) -> EyeFigures:
    """Look for the pair of eyes and measure it.

    Both eyes are looked for at the same place of the mirrored head, so that one stripe beside
    another is no pair: where the iris stands out most from the white on *both* sides, the mean of
    the two eyes. Closed eyes have low figures, in data as well: compare medians of many heads.
    """
    patches = eye_patches(images, cameras)
    count, _, height, width = patches.shape
    iris, outer, inner = (
        F.conv2d(patches.reshape(-1, 1, height, width), kernel.to(patches)[None, None])
        for kernel in _kernels()
    )
    contrast = (torch.minimum(outer, inner) - iris).reshape(count, 2, *iris.shape[2:])
    columns = contrast.shape[3]
    best = contrast.mean(1).flatten(1).argmax(1)
    rows = torch.arange(count, device=patches.device)
    top, left = best // columns, best % columns
    found = contrast[rows, :, top, left]  # [N, 2]
    middle = tuple(int(round(half / _STEP)) for half in _HALF)
    reach = tuple(int(round(half / _STEP)) for half in _OPENING)
    down, along = (
        torch.arange(-size, size + 1, device=patches.device) + center
        for size, center in zip(reach[::-1], middle[::-1], strict=True)
    )
    eyes = patches[
        rows[:, None, None],
        :,
        (top[:, None] + down)[:, :, None],
        (left[:, None] + along)[:, None, :],
    ]  # [N, h, w, 2]
    return EyeFigures(
        iris=found.mean(1),
        weaker_iris=found.amin(1),
        difference=(eyes[..., 0] - eyes[..., 1]).abs().mean((1, 2)),
    )


# images [N, 3, H, W], cameras (N,) -> [N, 2, h, w]
def eye_patches(images: Tensor, cameras: Cameras) -> Tensor:
    """Gray levels around both eyes, on the frontal plane through the template's pupil.

    The left eye comes first. The outer corner is at the right of both, so that they mirror each
    other.
    """
    up, out = (
        torch.arange(-count, count + 1, device=images.device) * _STEP
        for count in (
            int(round((half + reach) / _STEP))
            for half, reach in zip(_HALF[::-1], _REACH[::-1], strict=True)
        )
    )
    up, out = torch.meshgrid(up.flip(0), out, indexing="ij")
    x, y, z = load_template("head").landmarks["pupilLeft"].tolist()
    gray = (images.float() * images.new_tensor(_LUMA, dtype=torch.float32)[:, None, None]).sum(1)
    patches = []
    for side in (1.0, -1.0):
        points = torch.stack([side * (x + out), y + up, torch.full_like(up, z)], -1)
        places = _project(points.reshape(-1, 3), cameras)[0].reshape(len(images), *up.shape, 2)
        patch = F.grid_sample(
            gray[:, None], 2 * places - 1, padding_mode="border", align_corners=False
        )
        patches.append(patch[:, 0])
    return torch.stack(patches, 1)


@functools.cache
def _kernels() -> tuple[Tensor, Tensor, Tensor]:
    """Means over the iris, the white at its outer and the white at its inner side, each [h, w]."""
    along, down = (
        torch.arange(-int(round(half / _STEP)), int(round(half / _STEP)) + 1) * _STEP
        for half in _HALF
    )
    b, a = torch.meshgrid(down, along, indexing="ij")
    disc = a**2 + b**2 < _IRIS**2
    outer, inner = (
        ((a - side * _WHITE_AT) / _WHITE_RADII[0]) ** 2 + (b / _WHITE_RADII[1]) ** 2 < 1
        for side in (1, -1)
    )
    first, second, third = (mask / mask.sum() for mask in (disc, outer, inner))
    return first, second, third


# alpha [N, H, W] in [0, 1] -> two [N]
def see_through(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels inside the silhouette that are not opaque, and pixels inside the silhouette.

    The silhouette is what is half covered or more, its holes filled; a 32nd of the image's side is
    taken off along the outline, where splats are soft. Where nothing is drawn both are zero.
    """
    from scipy import ndimage

    width = max(1, min(alpha.shape[1:]) // _OUTLINE)
    missing, inside = [], []
    for image in alpha.cpu().numpy():
        filled = ndimage.binary_fill_holes(image >= 0.5)
        # what the image's border cuts off is no outline
        kept = ndimage.binary_erosion(filled, iterations=width, border_value=1)
        missing.append(int((image[kept] < OPAQUE).sum()))
        inside.append(int(kept.sum()))
    return torch.tensor(missing), torch.tensor(inside)


# camera (1,) -> bool [size, size]
def skull_mask(camera: Cameras, size: int) -> np.ndarray:
    """The pixels where the template's scalp is seen."""
    template = load_template("head")
    places, depth = _project(torch.from_numpy(template.vertices), camera)
    face, _ = rasterize_triangles(
        places[0].cpu().numpy() * size,
        depth[0].cpu().numpy(),
        template.faces,
        size,
        size,
        perspective=True,
        cull="back",
    )
    scalp = template.regions["scalp"][template.faces].mean(1) > 0.5
    return (face >= 0) & scalp[np.maximum(face, 0)]


# image [3, H, W] in [0, 255] over white, camera (1,)
def white_back(image: Tensor, camera: Cameras) -> float | None:
    """Share of the skull's pixels that are white: unpainted, or a background that shines through.

    ``None`` where the image shows nothing of the skull.
    """
    seen = image.amin(0).cpu().numpy()[skull_mask(camera, image.shape[-1])]
    return float((seen >= WHITE).mean()) if len(seen) else None


# depth [H, W] in world units, camera (1,) that looks from behind
def hollow_back(depth: Tensor, camera: Cameras) -> float | None:
    """Share of the skull's pixels where what is seen lies beyond the middle of the head.

    That is the inside of the face. ``None`` as in ``white_back``.
    """
    middle = float(camera.viewmats[0, 2, 3])  # of the world's origin
    seen = depth.cpu().numpy()[skull_mask(camera, depth.shape[-1])]
    return float((seen > middle).mean()) if len(seen) else None


# points [P, 3], cameras (N,) -> [N, P, 2] shares of the image's sides, [N, P] depth
def _project(points: Tensor, cameras: Cameras) -> tuple[Tensor, Tensor]:
    matrix = cameras.viewmats.to(points)
    seen = points @ matrix[:, :3, :3].mT + matrix[:, None, :3, 3]
    plane = seen @ cameras.intrinsics.to(points).mT
    return plane[..., :2] / plane[..., 2:], seen[..., 2]
