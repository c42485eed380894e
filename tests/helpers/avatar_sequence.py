"""A small tracked sequence in the project's own format: a gray disc whose middle follows the first
coefficient."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gghead.cameras import Cameras

SIZE = 24
NAMES = ("jawOpen", "mouthSmile", "eyeBlink")


def write_sequence(
    folder: Path,
    count: int = 8,
    test: int = 2,
    names: tuple[str, ...] = NAMES,
    masks: bool = True,
    change=lambda content: None,
) -> Path:
    """Write ``count`` frames, the last ``test`` of them for testing; ``change`` may alter
    transforms.json before."""
    random = np.random.RandomState(0)
    expressions = random.rand(count, len(names)).round(3)
    cameras = Cameras.orbit(
        torch.linspace(-0.3, 0.3, count, dtype=torch.float64), focal=2.9
    ).cam2world
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
    disc = np.hypot(rows, columns) < SIZE * 0.4
    middle = np.hypot(rows, columns) < SIZE * 0.15
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    frames = []
    for index in range(count):
        image = np.full((SIZE, SIZE, 3), 255, np.uint8)
        image[disc] = (150, 110, 90)
        image[middle] = (int(255 * expressions[index, 0]), 40, 60)
        Image.fromarray(image).save(folder / f"images/{index:05d}.png")
        frame = {
            "file_path": f"images/{index:05d}.png",
            "frame": index,
            "cam2world": cameras[index].tolist(),
            "transform_matrix": (cameras[index].numpy() @ np.diag([1.0, -1, -1, 1])).tolist(),
            "split": "train" if index < count - test else "test",
            "expression": expressions[index].tolist(),
        }
        if masks:
            Image.fromarray(np.uint8(255 * disc)).save(folder / f"masks/{index:05d}.png")
            frame["mask_path"] = f"masks/{index:05d}.png"
        frames.append(frame)
    focal = 2.9 * SIZE
    content = {
        "w": SIZE,
        "h": SIZE,
        "fl_x": focal,
        "fl_y": focal,
        "cx": SIZE / 2,
        "cy": SIZE / 2,
        "fps": 25,
        "expression_names": list(names),
        "frames": frames,
    }
    change(content)
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder
