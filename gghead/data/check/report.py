"""The checks of a data set together, and what they say; a short form at the start of a training."""

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gghead.data.check.cameras import angles, check_cameras
from gghead.data.check.findings import ERROR, Finding, sort_findings
from gghead.data.check.image_checks import (
    Look,
    check_images,
    find_mirrored_pairs,
    find_repeated,
    inspect_images,
)
from gghead.data.check.inventory import Inventory, take_inventory
from gghead.data.check.silhouettes import Fit, check_silhouettes, fit
from gghead.data.dataset import ImageDataset
from gghead.data.files import image_header
from gghead.data.shards import shard_inputs, tar_paths
from gghead.torch_utils.errors import UserError

_FITTED = 512  # images whose masks are compared with the template; about 7 ms each
_BLOCK = 8  # they are taken in runs of neighbors, so that slipped labels show
_HEADERS = 2048


@dataclass
class CheckReport:
    """What is in a data set and what is wrong with it."""

    path: Path
    fast: bool
    inventories: list[Inventory] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Images with labels, over all shards, with the shard's name before them."""
    labels: np.ndarray = field(default_factory=lambda: np.zeros((0, 25)))
    usable: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    """[N] bool: the camera is rigid and sees the head."""
    looks: list[Look] = field(default_factory=list)
    fits: dict[int, Fit] = field(default_factory=dict)
    """Image -> how its mask and the template agree, for those compared."""
    findings: list[Finding] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    """What could not be judged, and why."""

    @property
    def ok(self) -> bool:
        """Whether training may start."""
        return not any(found.severity == ERROR for found in self.findings)

    def place(self, index: int) -> tuple[Inventory, int]:
        """Return the shard of an image and its index there."""
        for inventory in self.inventories:
            if index < len(inventory.names):
                return inventory, index
            index -= len(inventory.names)
        raise IndexError(index)

    def statistics(self) -> dict:
        """Figures of the set, for JSON."""
        figures: dict = {
            "images": len(self.names),
            "masks": sum(
                len(part.mask_names) - part.mask_names.count(None) for part in self.inventories
            ),
        }
        if self.usable.any():
            rows = self.labels[self.usable]
            yaw, pitch, roll = angles(rows).T
            radius = np.linalg.norm(rows[:, [3, 7, 11]], axis=1)
            for key, values in (
                ("yaw_deg", yaw),
                ("pitch_deg", pitch),
                ("roll_deg", roll),
                ("radius", radius),
                ("focal", rows[:, 16]),
            ):
                low, middle, high = np.percentile(values, [5, 50, 95]).round(4).tolist()
                figures[key] = {
                    "p5": low,
                    "median": middle,
                    "p95": high,
                    "std": round(float(values.std()), 4),
                }
        if self.fits:
            overlaps = [value.iou for value in self.fits.values()]
            low, middle = np.percentile(overlaps, [5, 50]).round(4).tolist()
            figures["silhouette_iou"] = {"p5": low, "median": middle, "compared": len(overlaps)}
        return figures

    def as_dict(self) -> dict:
        """For JSON."""
        return {
            "path": str(self.path),
            "ok": self.ok,
            "fast": self.fast,
            **self.statistics(),
            "findings": [found.as_dict() for found in self.findings],
            "not_checked": self.not_checked,
        }

    def close(self) -> None:
        """Close the files."""
        for inventory in self.inventories:
            inventory.close()


def check_dataset(
    path: str | os.PathLike,
    masks: str | os.PathLike | None = "auto",
    fast: bool = False,
    workers: int = 2,
    # images done, in all; which work
    progress: Callable[[int, int, str], object] = lambda done, total, what: None,
) -> CheckReport:
    """Check a zip, a folder, or a folder of zips; ``fast`` decodes nothing.

    Raises:
        UserError: there is no data set at ``path`` (no such file, no zip, no dataset.json, no
            labels in it).
    """
    if tar_paths(os.fspath(path)):
        raise UserError(f"{path}: check the zip or folder before it is split into tar files.")
    report = CheckReport(Path(path), fast)
    inputs = shard_inputs(Path(path), masks)
    findings: list[Finding] = []
    for shard, shard_masks, labels in inputs:
        inventory = take_inventory(shard, shard_masks, labels)
        report.inventories.append(inventory)
        prefix = f"{shard.stem}/" if len(inputs) > 1 else ""
        report.names += [prefix + name for name in inventory.names]
        findings += [_add_prefix(found, prefix) for found in inventory.findings]
    findings += [] if masks is None else _without_masks(report, len(inputs) > 1)
    if not report.names:
        report.findings = sort_findings(_merge(findings))
        return report
    report.labels = np.concatenate([inventory.labels for inventory in report.inventories])
    found, report.usable = check_cameras(report.labels, report.names)
    findings += found
    if fast:
        findings += _headers(report) + _equal_files(report)
        report.not_checked.append(
            "pixels, masks and mirrored pairs, because `fast=True` decodes nothing"
        )
    else:
        findings += _images(report, workers, progress)
        findings += _pairs(report)
        if any(found.code in ("units", "framing") for found in findings):
            report.not_checked.append("whether cameras fit the heads: their distances are wrong")
        else:
            findings += _silhouettes(report, progress)
    report.findings = sort_findings(_merge(findings))
    return report


def _without_masks(report: CheckReport, prefixed: bool) -> list[Finding]:
    """Images of shards that have no masks at all, where other shards have some."""
    masked = [bool(part.mask_names) or _has_alpha(part) for part in report.inventories]
    names = [
        f"{part.source.path.stem}/{name}"
        for part, has in zip(report.inventories, masked, strict=True)
        if not has
        for name in part.names
    ]
    return [Finding("mask-missing", names)] if prefixed and any(masked) and names else []


def _has_alpha(part: Inventory) -> bool:
    """Whether the first image that can be read has an alpha channel."""
    for name in part.names:
        try:
            return image_header(part.source, name)[1] in ("RGBA", "LA")
        except UserError:
            continue
    return False


def _add_prefix(found: Finding, prefix: str) -> Finding:
    found.files = [prefix + name for name in found.files]
    return found


def _merge(findings: list[Finding]) -> list[Finding]:
    """Join findings of the same fault from several shards."""
    by_code: dict[str, Finding] = {}
    for found in findings:
        if found.code in by_code:
            by_code[found.code].files += found.files
            by_code[found.code].count += found.count
        else:
            by_code[found.code] = found
    return list(by_code.values())


def _headers(report: CheckReport) -> list[Finding]:
    """Sizes of an even sample of images, from their headers."""
    looks: dict[int, Look] = {}
    for index in range(0, len(report.names), -(-len(report.names) // _HEADERS)):
        inventory, at = report.place(index)
        try:
            looks[index] = Look(
                size=image_header(inventory.source, inventory.names[at])[0], digest=b"%d" % index
            )
        except UserError as error:
            looks[index] = Look(error=str(error))
    names = [report.names[i] for i in looks]
    return check_images(names, (), report.labels[list(looks)], list(looks.values()))


def _equal_files(report: CheckReport) -> list[Finding]:
    """Images that are the same file, by the checksums that a zip holds."""
    groups = defaultdict(list)
    numbered = enumerate((part, name) for part in report.inventories for name in part.names)
    for index, (part, name) in numbered:
        checksum = part.source.checksum(name)
        if checksum is not None:
            groups[checksum].append(index)
    return find_repeated(
        [group for group in groups.values() if len(group) > 1], report.names, report.labels
    )


def _to_compare(usable: np.ndarray) -> set[int]:
    """Which images' masks to compare with the template.

    All of a small set, runs of neighbors of a large one.
    """
    chosen = np.flatnonzero(usable)
    if len(chosen) <= _FITTED:
        return set(chosen.tolist())
    starts = np.linspace(0, len(chosen) - _BLOCK, _FITTED // _BLOCK).astype(int)
    return {int(chosen[start + k]) for start in starts for k in range(_BLOCK)}


def _images(
    report: CheckReport, workers: int, progress: Callable[[int, int, str], object]
) -> list[Finding]:
    keep, done = _to_compare(report.usable), 0
    for inventory in report.inventories:
        own = {i - done for i in keep}
        report.looks += inspect_images(
            inventory,
            own,
            workers,
            lambda n, done=done: progress(done + n, len(report.names), "Decoding"),
        )
        done = len(report.looks)
    # of shards without masks the images' names stand in
    masks = [name for part in report.inventories for name in part.mask_names or part.names]
    return check_images(report.names, masks, report.labels, report.looks)


def _pairs(report: CheckReport) -> list[Finding]:
    """Flipped copies whose cameras are not flipped.

    Copies of symmetric images or frontal cameras tell nothing.
    """
    yaw = angles(np.where(report.usable[:, None], report.labels, 0.0))[:, 0]
    wrong = [
        (i, j)
        for i, j in find_mirrored_pairs(report.looks)
        if report.usable[i]
        and report.usable[j]
        and abs(yaw[i] + yaw[j]) > max(4.0, 0.5 * abs(yaw[i] - yaw[j]))
    ]
    if not wrong:
        return []
    return [
        Finding(
            "mirrored-pairs",
            [report.names[i] for i in sorted({i for pair in wrong for i in pair})],
            count=len(wrong),
            detail=f"with {report.names[wrong[0][1]]}",
        )
    ]


def _silhouettes(report: CheckReport, progress: Callable[[int, int, str], object]) -> list[Finding]:
    compared = {
        i: look.small
        for i, look in enumerate(report.looks)
        if look.small is not None and look.mask_range[1] > 0 and look.mask_range[0] < 255
    }
    if not compared:
        masks = any(look.mask_size is not None for look in report.looks)
        why = "no image has both a mask and a usable camera" if masks else "there are no masks"
        report.not_checked.append(
            f"whether cameras fit the heads, and left and right (mirrored poses): {why}; look at "
            "the contact sheet"
        )
        return []
    for count, (i, mask) in enumerate(compared.items()):
        progress(count, len(compared), "Comparing masks with the head template")
        report.fits[i] = fit(report.labels[i], mask)
    yaw = angles(report.labels[list(compared)])[:, 0]
    if (np.abs(yaw) > 5).sum() < 8:
        report.not_checked.append(
            "left and right (mirrored poses): fewer than 8 turned heads with masks"
        )
    return check_silhouettes(list(report.fits.values()), yaw, [report.names[i] for i in compared])


def check_at_start(dataset: ImageDataset) -> list[str]:
    """Return a line per warning about the cameras of a data set.

    Opening it has checked files, labels and masks.

    Raises:
        UserError: the cameras cannot be those of heads, with the likely cause and the remedy.
    """
    count = dataset.num_files
    findings, _ = check_cameras(
        dataset.labels[:count].numpy(), [dataset.name(i) for i in range(count)]
    )
    for found in sort_findings(findings):
        if found.severity == ERROR:
            raise UserError(
                f"{dataset.path}: {found.sentence()} See python scripts/dataset_tool.py check "
                f"{dataset.path}; data.check=false trains all the same."
            )
    return [f"{found.severity}: {found.sentence()}" for found in sort_findings(findings)]
