"""What shows only in the pixels.

Damage, sizes, repetitions, mirrored copies, empty and full masks.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from gghead.data.check.findings import Finding
from gghead.data.check.inventory import Inventory
from gghead.data.check.silhouettes import small_mask
from gghead.data.files import image_header, read_image
from gghead.torch_utils.errors import UserError

THUMB = 16


@dataclass
class Look:
    """What decoding one image and its mask showed."""

    error: str = ""
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    """Of the pixels."""
    thumb: np.ndarray | None = None
    """[THUMB, THUMB] uint8 gray."""
    mask_error: str = ""
    mask_size: tuple[int, int] | None = None
    mask_range: tuple[int, int] = (0, 255)
    """Smallest and largest value."""
    small: np.ndarray | None = None
    """The mask at the size of ``silhouettes``, where it was asked for."""


def inspect_images(
    inventory: Inventory,
    keep: set[int],
    workers: int,
    progress: Callable[[int], object] = lambda count: None,
) -> list[Look]:
    """Decode every image and mask of a set in threads.

    Only those in ``keep`` leave a small mask behind.
    """
    looks = []
    with ThreadPoolExecutor(workers, thread_name_prefix="gghead-check") as pool:
        for look in pool.map(lambda i: _look(inventory, i, i in keep), range(len(inventory.names))):
            looks.append(look)
            progress(len(looks))
    return looks


def _look(inventory: Inventory, index: int, keep_mask: bool) -> Look:
    name, look = inventory.names[index], Look()
    try:
        embedded = inventory.mask_source is None and image_header(inventory.source, name)[1] in (
            "RGBA",
            "LA",
        )
        image = read_image(inventory.source, name, "RGBA" if embedded else "RGB")
        rgb = image.convert("RGB")
    except UserError as error:
        look.error = str(error)
        return look
    look.size, look.digest = image.size, hashlib.blake2b(rgb.tobytes(), digest_size=16).digest()
    look.thumb = np.asarray(rgb.convert("L").resize((THUMB, THUMB), Image.Resampling.BOX))
    mask_name = inventory.mask_names[index] if inventory.mask_names else None
    if embedded or mask_name is not None:
        try:
            if embedded or mask_name is None:
                mask = image.getchannel("A")
            else:
                assert inventory.mask_source is not None
                mask = read_image(inventory.mask_source, mask_name, "L")
        except UserError as error:
            look.mask_error = str(error)
            return look
        values = np.asarray(mask)
        look.mask_size, look.mask_range = mask.size, (int(values.min()), int(values.max()))
        look.small = small_mask(values) if keep_mask else None
    return look


def check_images(
    names: list[str],
    masks: Sequence[str | None],  # as names; empty without masks
    labels: np.ndarray,  # [N, 25]
    looks: list[Look],
) -> list[Finding]:
    """Return the faults of files and masks, but not those that need cameras."""
    masks = [mask or name for mask, name in zip(masks or names, names, strict=True)]
    damaged = [i for i, look in enumerate(looks) if look.error]
    bad_masks = [i for i, look in enumerate(looks) if look.mask_error]
    findings = []
    if damaged or bad_masks:
        message = (looks[damaged[0]].error if damaged else looks[bad_masks[0]].mask_error).split(
            " in "
        )[-1]
        findings.append(
            Finding(
                "undecodable",
                [names[i] for i in damaged] + [masks[i] for i in bad_masks],
                detail=message.rstrip("."),
            )
        )
    fine = [i for i, look in enumerate(looks) if not look.error]
    oblong = [i for i in fine if looks[i].size[0] != looks[i].size[1]]
    square = [i for i in fine if looks[i].size[0] == looks[i].size[1]]
    common = Counter(looks[i].size for i in square).most_common(1)
    other = [i for i in square if looks[i].size != common[0][0]]
    findings += _size_finding("not-square", oblong, names, looks) + _size_finding(
        "mixed-size", other, names, looks
    )
    masked = {i: size for i in fine if (size := looks[i].mask_size) is not None}
    shape = [
        i
        for i, (width, height) in masked.items()
        if width * looks[i].size[1] != height * looks[i].size[0]
    ]
    findings += [
        Finding("mask-empty", [masks[i] for i in masked if looks[i].mask_range[1] == 0]),
        Finding("mask-full", [masks[i] for i in masked if looks[i].mask_range[0] == 255]),
        Finding(
            "mask-size",
            [masks[i] for i in shape],
            detail="{}x{}".format(*masked[shape[0]]) if shape else "",
        ),
        *_find_repeated([looks[i] for i in fine], [names[i] for i in fine], labels[fine]),
    ]
    return [found for found in findings if found.count]


def _size_finding(
    code: str, which: list[int], names: list[str], looks: list[Look]
) -> list[Finding]:
    detail = "{}x{}".format(*looks[which[0]].size) if which else ""
    return [Finding(code, [names[i] for i in which], detail=detail)]


def _find_repeated(looks: list[Look], names: list[str], labels: np.ndarray) -> list[Finding]:
    groups = defaultdict(list)
    for i, look in enumerate(looks):
        groups[look.digest].append(i)
    return find_repeated([group for group in groups.values() if len(group) > 1], names, labels)


def find_repeated(groups: list[list[int]], names: list[str], labels: np.ndarray) -> list[Finding]:
    """Findings for groups of equal images; those whose cameras differ count apart."""
    same, differing = [], []
    for group in groups:
        close = np.abs(labels[group] - labels[group[0]]).max() < 0.02
        (same if close else differing).extend(group[1:])
    kinds = (("duplicate", same), ("duplicate-camera", differing))
    return [Finding(code, [names[i] for i in which]) for code, which in kinds if which]


def find_mirrored_pairs(looks: list[Look], window: int = 24) -> list[tuple[int, int]]:
    """Pairs of images of which one is the other flipped, found by thumbnails.

    A flipped image has the same mean, so only neighbors in the order of the mean are compared.
    """
    have = np.array([i for i, look in enumerate(looks) if look.thumb is not None], int)
    if len(have) < 2:
        return []
    thumbs = np.stack([looks[i].thumb for i in have]).astype(np.int16)
    # a symmetric image tells nothing
    lopsided = np.abs(thumbs - thumbs[:, :, ::-1]).mean((1, 2)) > 2.0
    order = np.argsort(thumbs.mean((1, 2)), kind="stable")
    thumbs, have, lopsided = thumbs[order], have[order], lopsided[order]
    pairs = []
    for step in range(1, min(window, len(have) - 1) + 1):
        apart = np.abs(thumbs[:-step] - thumbs[step:, :, ::-1]).mean((1, 2))
        alike = np.abs(thumbs[:-step] - thumbs[step:]).mean((1, 2))
        for at in np.flatnonzero((apart < 1.0) & (alike > 2 * apart + 1) & lopsided[:-step]):
            pairs.append(tuple(sorted((int(have[at]), int(have[at + step])))))
    return sorted(pairs)
