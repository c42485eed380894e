"""What became of the photos: quality of each, and the report."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from gghead.data.photos.config import Limits
from gghead.torch_utils.files import write_atomically

_SIDE = 128  # the face is measured at this size
_GOOD_SHARPNESS = 0.10  # what most photos reach
_GOOD_RESIDUAL = 0.003  # what nearly all photos stay below


@dataclass(frozen=True)
class Measures:
    """What is known of one face."""

    scale: float  # crop side in the photo / resolution
    sharpness: float
    filled: float  # share of the crop
    cut: float  # share of the landmarks outside the photo
    yaw: float  # degrees
    pitch: float  # degrees
    residual: float  # share of the crop's side


def sharpness(image: np.ndarray) -> float:  # [R, R, 3] uint8, a crop with the head in the middle
    """Return how much of the face's contrast is in its finest details.

    It is a quarter of the standard deviation of the Laplacian over that of the brightness, in the
    middle half of the crop at 128x128.
    """
    quarter = image.shape[0] // 4
    face = Image.fromarray(image[quarter : 3 * quarter, quarter : 3 * quarter]).convert("L")
    gray = np.asarray(face.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)
    laplacian = (
        gray[1:-1, :-2] + gray[1:-1, 2:] + gray[:-2, 1:-1] + gray[2:, 1:-1] - 4 * gray[1:-1, 1:-1]
    )
    return round(float(laplacian.std() / max(float(gray.std()), 1.0)) / 4, 4)


def fault(measures: Measures, limits: Limits) -> tuple[str, str] | None:
    """Return (reason, sentence) if the face must be skipped, the first that holds."""
    m, x = measures, limits
    checks = (
        (
            m.residual > x.max_residual,
            "poor fit",
            f"landmarks fit with {m.residual:.3f} of the crop's side",
        ),
        (abs(m.yaw) > x.max_yaw, "turned too far", f"yaw {m.yaw:.0f} degrees"),
        (abs(m.pitch) > x.max_pitch, "turned too far", f"pitch {m.pitch:.0f} degrees"),
        (m.scale < x.min_scale, "too small", f"the crop has {m.scale:.2f} of the resolution"),
        (m.cut > x.max_cut, "cut off", f"{m.cut:.0%} of the face's points lie outside the photo"),
        (m.filled > x.max_filled, "cut off", f"{m.filled:.0%} of the crop lies outside the photo"),
        (m.sharpness < x.min_sharpness, "too blurred", f"sharpness {m.sharpness:.3f}"),
    )
    return next(((reason, sentence) for wrong, reason, sentence in checks if wrong), None)


def score(measures: Measures) -> float:
    """Return a quality in [0, 1]: the product of what scale, sharpness, fill and fit leave of 1."""
    m = measures
    parts = (
        min(m.scale, 1.0),
        min(m.sharpness / _GOOD_SHARPNESS, 1.0),
        1.0 - m.filled,
        min(_GOOD_RESIDUAL / max(m.residual, 1e-6), 1.0),
    )
    return round(float(np.prod(parts)), 4)


@dataclass
class PhotoReport:
    """Filled photo by photo, in the order of the photos."""

    photos: int = 0
    ignored: list[str] = field(default_factory=list)  # other files among the photos
    items: list[dict] = field(default_factory=list)  # the records of the kept faces
    skipped: list[dict] = field(default_factory=list)  # source, reason, detail

    @property
    def reasons(self) -> dict[str, int]:
        """Count skipped photos by reason, the most frequent first.

        Where all faces were asked for it counts faces.
        """
        counts = Counter(entry["reason"] for entry in self.skipped)
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    def lines(self) -> list[str]:
        """The report in a few lines for people."""
        kept = len({record["source"] for record in self.items})
        share = f" ({kept / self.photos:.1%})" if self.photos else ""
        lines = [f"{kept} of {self.photos} photos used{share}, {len(self.items)} faces."]
        for reason, count in self.reasons.items():
            first = next(entry for entry in self.skipped if entry["reason"] == reason)
            lines.append(
                f"  {count} skipped, {reason} (first: {first['source']}: {first['detail']})"
            )
        if self.ignored:
            lines.append(
                f"  {len(self.ignored)} other files are no photos that can be read (first:"
                f" {self.ignored[0]})"
            )
        fitted = [record["residual_px"] for record in self.items if "residual_px" in record]
        if fitted:
            fitted.sort()
            middle, high = (
                fitted[len(fitted) // 2],
                fitted[min(int(0.95 * len(fitted)), len(fitted) - 1)],
            )
            lines.append(
                f"  landmark residual, pixels at 512: median {middle:.2f}, 95th percentile"
                f" {high:.2f}"
            )
        return lines

    def save(self, path: Path, options: dict) -> None:
        """Write the JSON.

        It says nothing that changes from run to run (no times), so it can be compared.
        """
        content = {
            "photos": self.photos,
            "faces": len(self.items),
            "ignored_files": len(self.ignored),
            "skipped": self.reasons,
            "options": options,
            "skipped_photos": self.skipped,
        }
        write_atomically(
            path, lambda file: file.write((json.dumps(content, indent=1) + "\n").encode())
        )
