"""What became of every photo: counts by reason, printed and as JSON beside the data set."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from gghead.torch_utils.files import write_atomically


@dataclass
class Report:
    """Filled photo by photo, in the order of the photos."""

    photos: int = 0
    ignored: list[str] = field(default_factory=list)  # other files among the photos
    items: list[dict] = field(default_factory=list)  # the records of the kept faces
    skipped: list[dict] = field(default_factory=list)  # source, reason, detail

    @property
    def reasons(self) -> dict[str, int]:
        """Count of skipped photos (faces, where all faces were asked for) by reason, the most frequent first."""
        counts = Counter(entry["reason"] for entry in self.skipped)
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    def lines(self) -> list[str]:
        """The report in a few lines for people."""
        kept = len({record["source"] for record in self.items})
        share = f" ({kept / self.photos:.1%})" if self.photos else ""
        lines = [f"{kept} of {self.photos} photos used{share}, {len(self.items)} faces."]
        for reason, count in self.reasons.items():
            first = next(entry for entry in self.skipped if entry["reason"] == reason)
            lines.append(f"  {count} skipped, {reason} (first: {first['source']}: {first['detail']})")
        if self.ignored:
            lines.append(f"  {len(self.ignored)} other files are no photos that can be read (first: {self.ignored[0]})")
        fitted = [record["residual_px"] for record in self.items if "residual_px" in record]
        if fitted:
            fitted.sort()
            middle, high = fitted[len(fitted) // 2], fitted[min(int(0.95 * len(fitted)), len(fitted) - 1)]
            lines.append(f"  landmark residual, pixels at 512: median {middle:.2f}, 95th percentile {high:.2f}")
        return lines

    def save(self, path: Path, options: dict) -> None:
        """Write the JSON; it says nothing that changes from run to run (no times), so it can be compared."""
        content = {
            "photos": self.photos,
            "faces": len(self.items),
            "ignored_files": len(self.ignored),
            "skipped": self.reasons,
            "options": options,
            "skipped_photos": self.skipped,
        }
        write_atomically(path, lambda file: file.write((json.dumps(content, indent=1) + "\n").encode()))
