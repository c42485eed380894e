"""What a video shows."""

import numpy as np
from PIL import Image


def frames_of(path):
    with Image.open(path) as video:
        count = getattr(video, "n_frames", 1)
        shown = []
        for index in range(count):
            video.seek(index)
            shown.append(np.asarray(video.convert("RGB")))
    return np.stack(shown)
