"""Turn a folder of photos, one of masks and an EG3D-style labels file into a data set zip.

    python datasets/labelled_photos.py --images=photos/images --masks=photos/masks --labels=photos/labels.json \
        --dest=photos64.zip --resolution=64

``labels.json`` is ``{"labels": [[name, [25 floats]], ...]}``; names are relative to --images or to its parent folder.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import numpy as np

from gghead.data.labels import label_array, parse_dataset_json
from gghead.data.resize import estimate_foreground, resize_image, resize_straight_alpha
from gghead.data.sources import decode_image
from gghead.data.writer import DatasetWriter, encode_png, image_name
from torch_utils.cli import command
from torch_utils.errors import UserError


def find_image(folder: Path, name: str) -> Path:
    """Return the photo that a label names; raises ``UserError`` if there is none."""
    for candidate in (folder / name, folder.parent / name):
        if candidate.is_file():
            return candidate
    raise UserError(f"The labels name {name}, but there is no {folder / name}.")


def find_mask(folder: Path, image: Path) -> Path:
    """Return the mask with the stem of the photo, whatever its type; raises ``UserError`` if there is none."""
    for suffix in (".png", image.suffix, ".jpg", ".webp"):
        candidate = folder / (image.stem + suffix)
        if candidate.is_file():
            return candidate
    raise UserError(f"{image.name} has no mask {image.stem}.png in {folder}.")


def convert(image: Path, mask: Path | None, resolution: int) -> tuple[bytes, bytes | None]:
    """Return (photo, mask) as PNG files of the wanted size; the colours are the foreground's own, without its alpha."""
    rgb = np.asarray(decode_image(image.read_bytes(), "RGB", str(image)))
    if rgb.shape[0] != rgb.shape[1]:
        raise UserError(f"{image} is {rgb.shape[1]}x{rgb.shape[0]}, but photos must be square, so crop them.")
    if mask is None:
        return encode_png(resize_image(rgb, resolution)), None
    alpha = np.asarray(decode_image(mask.read_bytes(), "L", str(mask)))
    if alpha.shape != rgb.shape[:2]:
        raise UserError(f"{mask} is {alpha.shape[1]}x{alpha.shape[0]}, but its photo {rgb.shape[1]}x{rgb.shape[0]}.")
    if not alpha.any():
        raise UserError(f"The mask {mask} is empty (all zero); mend it or leave the photo out of the labels.")
    foreground = np.where(alpha[..., None] > 0, estimate_foreground(rgb, alpha), rgb)
    rgb, alpha = resize_straight_alpha(foreground, alpha, resolution)
    return encode_png(rgb), encode_png(alpha)


@command()
@click.option("--images", type=click.Path(path_type=Path), required=True, help="Folder with the photos.")
@click.option("--masks", type=click.Path(path_type=Path), help="Folder with masks of the same stems (255 = person).")
@click.option("--labels", type=click.Path(path_type=Path), required=True, help="Labels as in EG3D's dataset.json.")
@click.option("--dest", type=click.Path(path_type=Path), required=True, help="The zip to write.")
@click.option("--resolution", type=click.IntRange(min=1), default=512, show_default=True, help="Side in pixels.")
@click.option("--max-images", type=click.IntRange(min=1), help="Only the first so many.")
def main(images: Path, masks: Path | None, labels: Path, dest: Path, resolution: int, max_images: int | None) -> None:
    """Turn a folder of square photos with cameras (and masks) into a data set zip."""
    for folder in filter(None, (images, masks)):
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder.")
    if not labels.is_file():
        raise UserError(f"{labels} does not exist; give a JSON file with camera labels.")
    by_name = parse_dataset_json(labels.read_bytes(), labels)["labels"]
    names = sorted(by_name)[:max_images]
    cameras = label_array(by_name, names, labels)
    begin = time.perf_counter()
    with DatasetWriter(dest) as writer:
        records = []
        for index, (name, camera) in enumerate(zip(names, cameras, strict=True)):
            photo = find_image(images, name)
            image, mask = convert(photo, find_mask(masks, photo) if masks else None, resolution)
            writer.add(image_name(index), image, camera, mask)
            records.append({"file": image_name(index), "source": name})
        writer.set("frames", records)
    click.echo(f"{len(names)} photos at {resolution}x{resolution} in {time.perf_counter() - begin:.0f} s: {dest}")


if __name__ == "__main__":
    main()
