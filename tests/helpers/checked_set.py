"""A healthy data set to put faults into, and the assertion that exactly one of them is named."""

import functools
import json
import zipfile

import numpy as np
import torch

from gghead.cameras import Cameras
from gghead.data.check import FAULTS, check_dataset
from gghead.data.check.silhouettes import project
from gghead.data.dataset_zip import image_name
from gghead.data.zip_writer import encode_png
from gghead.template import load_template, rasterize_triangles

COUNT, SIZE = 48, 32
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def poses(count=COUNT, seed=0, spread=0.35):
    random = np.random.RandomState(seed)
    yaw, pitch = random.normal(0, spread, count), random.normal(0, 0.12, count)
    return Cameras.orbit(torch.tensor(yaw), torch.tensor(pitch)).label().double().numpy()


def head_mask(label, size=SIZE):
    """The template's own outline."""
    template = load_template("head")
    xy, _ = project(template.vertices, label)
    face, _ = rasterize_triangles(xy * size, None, template.faces, size, size)
    return np.where(face >= 0, 255, 0).astype(np.uint8)


@functools.cache
def healthy_set():
    """Images, masks and labels of heads with the template's outline; each has its own slanted
    colors."""
    labels = poses()
    random = np.random.RandomState(1)
    ramp = np.linspace(-1, 1, SIZE)
    images, masks = [], []
    for label in labels:
        mask = head_mask(label)
        slope = random.uniform(-60, 60, (3, 2))
        color = (
            128
            + slope[:, 0, None, None] * ramp[:, None]
            + slope[:, 1, None, None] * ramp
            + random.normal(0, 8)
        )
        image = np.where(mask[..., None] > 127, color.transpose(1, 2, 0), random.randint(0, 255, 3))
        images.append(np.clip(image, 0, 255).astype(np.uint8))
        masks.append(mask)
    return images, masks, labels


class Set:
    """A set that tests change before it is written."""

    def __init__(self, healthy):
        images, masks, labels = healthy
        self.files = {image_name(i): encode_png(image) for i, image in enumerate(images)}
        self.masks = {image_name(i): encode_png(mask) for i, mask in enumerate(masks)}
        self.labels = {image_name(i): label.tolist() for i, label in enumerate(labels)}
        self.extra = {}

    def array(self):
        return np.array(list(self.labels.values()))

    def relabel(self, rows, which=None):
        for i, name in enumerate(list(self.labels)):
            if which is None or i in which:
                self.labels[name] = np.asarray(rows[i]).tolist()

    def write(self, path):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in self.files.items():
                archive.writestr(name, data)
            for name, data in self.masks.items():
                archive.writestr(f"masks/{name}", data)
            for name, data in self.extra.items():
                archive.writestr(name, data)
            content = {
                "labels": list(self.labels.items()),
                "masks": {name: f"masks/{name}" for name in self.masks},
            }
            archive.writestr("dataset.json", json.dumps(content))
        return path


def check(data, tmp_path, **options):
    report = check_dataset(data.write(tmp_path / "a.zip"), **options)
    report.close()
    return report


def only(report, code, count=None, severity=None):
    """Assert that exactly this fault was named."""
    assert [found.code for found in report.findings] == [code], [
        found.sentence() for found in report.findings
    ]
    found = report.findings[0]
    if count is not None:
        assert found.count == count
    assert found.severity == (severity or FAULTS[code][0]) and report.ok == (
        found.severity == "warning"
    )
    assert (
        "Likely cause: " in found.sentence()
        and "Remedy: " in found.sentence()
        and "{" not in found.sentence()
    )
    return found


def pose_of(rows):
    return rows[:, :16].reshape(-1, 4, 4).copy()


def with_pose(rows, pose):
    return np.concatenate([np.asarray(pose).reshape(-1, 16), rows[:, 16:]], 1)
