"""What reading costs.

Images with the statistics of photos, encoded in the formats that zips hold.
"""

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from gghead.cameras import Cameras
from gghead.data.dataset import ImageDataset
from gghead.data.dataset_zip import DatasetWriter
from gghead.data.images import decode_image
from gghead.data.loader import BatchLoader
from gghead.training.benchmarks.formats import FORMATS


def photo_like(size: int, seed: int) -> Image.Image:
    """An image with a spectrum as that of photos (amplitude 1/f), and a little sensor noise."""
    random = np.random.RandomState(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1
    planes = []
    for _ in range(3):
        spectrum = np.fft.rfft2(random.normal(size=(size, size))) / frequency**1.2
        spectrum[0, 0] = 0
        plane = np.fft.irfft2(spectrum, (size, size))
        planes.append(plane / plane.std())
    gray, red, blue = planes  # colors of photos vary less than their brightness
    colors = 128 + 50 * np.stack([gray + 0.3 * red, gray, gray + 0.3 * blue], -1)
    return Image.fromarray(
        np.clip(colors + random.normal(0, 1.5, colors.shape), 0, 255).astype(np.uint8)
    )


def encode(image: Image.Image, name: str) -> bytes:
    """Encode in one of ``FORMATS``."""
    buffer = io.BytesIO()
    image.save(buffer, **FORMATS[name])
    return buffer.getvalue()


def decoders(files: dict[str, list[bytes]]) -> dict[str, Callable[[], object]]:
    """A function per format that decodes all its files."""
    return {
        name: lambda name=name, data=data: [decode_image(file, "RGB", name) for file in data]
        for name, data in files.items()
    }


def write_set(path: Path, images: list[bytes], count: int, size: int) -> Path:
    """Write ``count`` images with masks, repeating ``images``."""
    label = Cameras.orbit(0.1).label()[0].numpy()
    y, x = np.mgrid[:size, :size] / size - 0.5
    mask = np.rint(255 * np.clip(20 * (0.4 - np.hypot(x, y)), 0, 1)).astype(np.uint8)
    suffix = {b"\x89": "png", b"\xff": "jpg", b"R": "webp"}
    with DatasetWriter(path) as writer:
        for i in range(count):
            data = images[i % len(images)]
            writer.add(f"{i:06d}.{suffix[data[:1]]}", data, label, mask)
    return path


_BATCH = 16


def loader_speed(path: Path, resolution: int, workers: int | None, images: int) -> float:
    """Images per second of a ``BatchLoader`` that nobody waits for, nothing cached."""
    with _loader(path, resolution, workers=workers) as loader:
        begin = time.perf_counter()
        for _ in range(images // _BATCH):
            next(loader)
        return images // _BATCH * _BATCH / (time.perf_counter() - begin)


def waiting_share(path: Path, resolution: int, images: int, step: float, **options) -> float:
    """Share of the time that steps of ``step`` seconds wait for their images.

    The steps need no processor (a GPU's).

    ``options`` of ``BatchLoader``; ``prefetch=0`` reads when a step begins.
    """
    with _loader(path, resolution, **options) as loader:
        for _ in range(_BATCH):  # the number of threads is found
            next(loader)
            time.sleep(step)
        waited = 0.0
        for _ in range(max(images // _BATCH, 1)):
            begin = time.perf_counter()
            next(loader)
            waited += time.perf_counter() - begin
            time.sleep(step)
        return waited / (waited + max(images // _BATCH, 1) * step)


@contextlib.contextmanager
def _loader(path: Path, resolution: int, **options) -> Iterator[BatchLoader]:
    with contextlib.closing(ImageDataset(path, resolution=resolution, cache_mb=0)) as dataset:
        with BatchLoader(dataset, _BATCH, seed=0, **options) as loader:
            next(loader)
            yield loader
