"""The rule by which loaders of StyleGAN's kind (EG3D's and GGHead's among them) read a zip, written
down anew.

Every member with an ending that Pillow knows is an image; the label of each is looked up by
its name; images come in the order of their names, all of one square size with three channels.
"""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def load(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return names, images [N, S, S, 3] and labels [N, 25]; raises as their loaders do where a zip
    does not fit."""
    Image.init()
    with zipfile.ZipFile(path) as archive:
        names = sorted(
            name
            for name in archive.namelist()
            if os.path.splitext(name)[1].lower() in Image.EXTENSION
        )
        table = dict(json.loads(archive.read("dataset.json"))["labels"])
        labels = np.array([table[name.replace("\\", "/")] for name in names], np.float32)
        images = [np.array(Image.open(io.BytesIO(archive.read(name)))) for name in names]
    shapes = {image.shape for image in images}
    if len(shapes) != 1 or next(iter(shapes))[2:] != (3,) or len({*next(iter(shapes))[:2]}) != 1:
        raise ValueError(f"images are not square, of one size and colored: {shapes}")
    assert len(labels) == len(names) and labels.shape[1] == 25
    return names, np.stack(images), labels
