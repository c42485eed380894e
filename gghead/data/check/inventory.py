"""Which files a data set has, and what of that does not belong together; nothing is decoded."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gghead.data.camera_labels import LABEL_SIZE, Labels, label_fault
from gghead.data.check.findings import Finding
from gghead.data.dataset_zip import DATASET_JSON, DatasetInfo, read_info
from gghead.data.files import Source, is_image, open_source
from gghead.data.image_files import image_names, pair_masks

_RESOURCE_FORK = re.compile(r"(^|/)(__MACOSX/|\._)")
_HARMLESS = re.compile(r"(^|/)(README[^/]*|LICEN[CS]E[^/]*|[^/]*\.(md|txt))$", re.IGNORECASE)


@dataclass
class Inventory:
    """The labeled images of one zip or folder."""

    source: Source
    names: list[str]
    """Images that are there and have 25 numbers."""
    labels: np.ndarray
    """[N, 25] float64."""
    mask_source: Source | None
    mask_names: list[str | None]
    """Per image; empty without masks."""
    findings: list[Finding] = field(default_factory=list)

    def close(self) -> None:
        """Close the files."""
        self.source.close()
        if self.mask_source is not None and self.mask_source is not self.source:
            self.mask_source.close()


def take_inventory(
    path: Path, masks: str | os.PathLike | None, labels: Labels | None = None
) -> Inventory:
    """List a zip or folder; raises ``UserError`` only where there is no data set at all."""
    source = open_source(path)
    info = read_info(source) if labels is None else DatasetInfo(labels)
    inner, by_name = info.masks, info.labels
    images = image_names(source, inner)
    present = set(images)
    unlabeled = [name for name in images if name not in by_name]
    forks = [name for name in unlabeled if _RESOURCE_FORK.search(name)]
    wrong = {
        name: fault for name in images if name in by_name and (fault := label_fault(by_name[name]))
    }
    good = [name for name in images if name in by_name and name not in wrong]
    mask_source, mask_names = pair_masks(source, inner, good, masks)
    first = next(iter(wrong.values()), "")
    findings = [
        Finding("unlabeled", [name for name in unlabeled if name not in set(forks)]),
        Finding("resource-fork", forks),
        Finding("missing-image", sorted(set(by_name) - present)),
        Finding("label-size", list(wrong), detail=first.removeprefix("has ")),
        Finding("repeated-name", list(source.repeated)),
        Finding(
            "extra-file",
            _extra(source, info.files() | ({DATASET_JSON} if labels is None else set())),
        ),
    ]
    if mask_source is not None:
        findings.append(
            Finding("mask-missing", [n for n, m in zip(good, mask_names, strict=True) if m is None])
        )
        # A mask of an image that is only unlabeled is no fault of its own.
        pool = inner.values() if mask_source is source else filter(is_image, mask_source.names())
        used = set(filter(None, mask_names))
        if len(good) == len(images):
            findings.append(Finding("mask-extra", [name for name in pool if name not in used]))
    rows = np.array([by_name[name] for name in good], np.float64).reshape(-1, LABEL_SIZE)
    return Inventory(
        source, good, rows, mask_source, mask_names, [found for found in findings if found.count]
    )


def _extra(source: Source, referred: set[str]) -> list[str]:
    return [
        name
        for name in source.names()
        if not is_image(name) and name not in referred and not _HARMLESS.search(name)
    ]
