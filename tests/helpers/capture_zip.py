"""A small set of multi-view captures in mvheads' form: colored balls, one per subject and moment,
on white."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from helpers.small_network import small_network
from PIL import Image

from gghead.cameras import Cameras
from gghead.rendering import render

SIZE, FOCAL = 32, 1.9
NAMES = ("jawOpen", "mouthSmile")


def ball(subject: int, moment: int):
    """Gaussians [1, N] of one color per side."""
    model = small_network()
    ws = model.mapping.w_avg.expand(1, model.num_ws, -1)
    head = model.gaussians(ws)
    head.means = model.attributes.position[None] * (0.8 + 0.2 * moment)
    color = torch.from_numpy(np.random.RandomState(subject).rand(2, 3).astype(np.float32))
    left = (head.means[..., :1] > 0).float()
    head.colors = left * color[0] + (1 - left) * color[1]
    head.opacities = torch.full_like(head.opacities, 0.95)
    head.training_size = None  # a thing with sharp borders, at any size
    return head


def write_captures(
    path: Path, subjects: int = 3, views: int = 5, change=lambda content: None
) -> Path:
    """Write ``subjects`` with two moments each; ``change`` may alter dataset.json before."""
    cameras = Cameras.orbit(
        torch.linspace(-1.0, 1.0, views), torch.linspace(0.2, -0.2, views), focal=FOCAL
    )
    frames = []
    with zipfile.ZipFile(path, "w") as file:
        for subject in range(subjects):
            for moment in range(2):
                out = render(ball(subject, moment), cameras, SIZE, background=1.0)
                for view in range(views):
                    name = f"{subject:03d}/e{moment}_c{view:02d}.png"
                    rgb = (
                        (out.color[0, view].clamp(0, 1) * 255)
                        .round()
                        .byte()
                        .permute(1, 2, 0)
                        .numpy()
                    )
                    alpha = (out.alpha[0, view, 0].clamp(0, 1) * 255).round().byte().numpy()
                    for folder, image in (("images", rgb), ("masks", alpha)):
                        encoded = io.BytesIO()
                        Image.fromarray(image).save(encoded, format="PNG")
                        file.writestr(f"{folder}/{name}", encoded.getvalue())
                    frames.append(
                        {
                            "file": f"images/{name}",
                            "mask": f"masks/{name}",
                            "subject": f"{subject:03d}",
                            "expression_id": moment,
                            "cam2world": cameras[view].cam2world.tolist(),
                            "intrinsics": cameras[view].intrinsics.tolist(),
                            "expression": [0.5 * moment, 0.1],
                        }
                    )
        labels = [
            [frame["file"], sum(frame["cam2world"], []) + sum(frame["intrinsics"], [])]
            for frame in frames
        ]
        content = {"labels": labels, "frames": frames, "expression_names": list(NAMES)}
        change(content)
        file.writestr("dataset.json", json.dumps(content))
    return path
