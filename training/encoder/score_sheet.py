"""A picture of what a score means: inputs, reconstruction, truth, error, a row per method and
number of views."""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.data.captures import ViewChoice, spread
from gghead.figures import beside, to_uint8, with_labels, write_png
from gghead.gaussians import Gaussians
from gghead.reconstruction.inputs import InputViews
from gghead.reconstruction.report import compare

_GAIN = 3  # of the error, shown dark on white


class ScoreSheet:
    """Collects rows of one head and writes them; two of the held-out views are shown."""

    def __init__(self, subject: str, expression: str) -> None:
        self.subject, self.expression = subject, expression
        self.rows: list[np.ndarray] = []
        self.labels: list[str] = []

    def add(self, record: dict, head: Gaussians, every: InputViews, choice: ViewChoice) -> None:
        """Take a row if the record is of this head."""
        if (record["subject"], record["expression"]) != (self.subject, self.expression):
            return
        shown = every.pick(spread(choice.targets, min(2, len(choice.targets))))
        values, color = compare(head, shown)
        error = 1 - (_GAIN * (color - shown.rgb).abs()).clamp(0, 1)
        cells = [montage(every.pick(choice.inputs[record["views"]]).rgb)]
        for index in range(len(shown)):
            cells += [to_uint8(color[index]), to_uint8(shown.rgb[index]), to_uint8(error[index])]
        self.rows.append(beside(cells))
        self.labels.append(
            f"{record['method']} {record['views']}: {float(values['psnr_mask'].mean()):.1f} dB"
        )

    def write(self, path: Path) -> None:
        """Write the PNG; nothing where no row was taken."""
        if not self.rows:
            return
        columns = [
            "inputs",
            *["reconstruction", "truth", f"error x{_GAIN}"]
            * ((self.rows[0].shape[1] // self.rows[0].shape[0] - 1) // 3),
        ]
        write_png(path, with_labels(np.concatenate(self.rows), columns, self.labels))


def montage(pictures: Tensor) -> np.ndarray:  # [V, 3, H, W] -> uint8 [H, W, 3]
    """All pictures in the area of one, white where the last line is not full."""
    height, width = pictures.shape[-2:]
    side = math.ceil(math.sqrt(len(pictures)))
    small = F.interpolate(pictures, size=(height // side, width // side), mode="area")
    canvas = torch.ones(3, height, width, device=pictures.device)
    for index, picture in enumerate(small):
        top, left = (
            place * length
            for place, length in zip(divmod(index, side), picture.shape[-2:], strict=True)
        )
        canvas[:, top : top + picture.shape[-2], left : left + picture.shape[-1]] = picture
    return to_uint8(canvas)
