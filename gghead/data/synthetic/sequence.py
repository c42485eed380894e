"""A tracked sequence of one synthetic person: frames, masks, cameras about the head, coefficients and 68 landmarks."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from gghead.cameras import Cameras
from gghead.data.photos.landmark_model import landmark_model
from gghead.data.synthetic.motion import sample_motion
from gghead.data.synthetic.person import sample_light, sample_person
from gghead.data.synthetic.render import head_vertices, render
from gghead.data.synthetic.scenes import in_processes
from gghead.data.writer import ZipWriter, encode_npz, encode_png
from gghead.template import load_template
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import derive_seed

FOCAL = 2.9  # of the picture's width: room for a head that turns
_JAW = 17  # first landmarks of iBUG's 68


@dataclass(frozen=True, eq=False)
class Scenes:
    """T frames of one person: what is drawn, a pure function of these."""

    resolution: int
    seed: int  # the person and the light
    names: tuple[str, ...]
    weights: np.ndarray  # [T, len(names)] blendshape weights
    labels: np.ndarray  # [T, 25] cameras

    def __post_init__(self):
        if not len(self.weights) or len(self.weights) != len(self.labels):
            raise UserError(f"A sequence needs a camera for every frame and at least one frame, but there are "
                            f"{len(self.weights)} frames and {len(self.labels)} cameras.")


def moving(frames: int, resolution: int, seed: int, fps: float) -> Scenes:
    """Scenes of a random motion."""
    names = tuple(load_template("head").blendshapes)
    motion = sample_motion(np.random.RandomState(derive_seed(seed, "motion") % 2**32), names, frames, fps)
    target = np.concatenate([motion.shifts, np.zeros((frames, 1))], 1)
    cameras = Cameras.orbit(*(torch.from_numpy(angle) for angle in motion.turns.T), focal=FOCAL,
                            target=torch.from_numpy(target))
    return Scenes(resolution, seed, names, motion.weights.round(4),
                  cameras.label().numpy())


def draw(scenes: Scenes, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture over white [R, R, 3], mask [R, R] and landmarks [68, 3] of a frame."""
    random = np.random.RandomState(derive_seed(scenes.seed, "subject", 0) % 2**32)
    person, light = sample_person(random), sample_light(random)
    weights = {name: float(value) for name, value in zip(scenes.names, scenes.weights[index], strict=True) if value}
    picture = render(person, weights, light, scenes.labels[index], scenes.resolution)
    alpha = picture.alpha[..., None] / 255.0
    rgb = np.rint(picture.rgb * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return rgb, picture.alpha, head_vertices(person, weights)[landmark_vertices()]


def frames(scenes: Scenes, workers: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All frames in order, drawn by ``workers`` processes."""
    yield from in_processes(partial(draw, scenes), len(scenes.weights), workers)


def landmark_vertices() -> np.ndarray:  # [68] int
    """The template's vertices nearest to the 68 points of iBUG on an average face.

    The 17 of the jaw line, which no average says, lie on an arc from ear to chin to ear.
    """
    template = load_template("head")
    ear, chin = (template.landmarks[name] for name in ("earLeft", "chin"))
    angle = np.linspace(-np.pi / 2, np.pi / 2, _JAW)[:, None]  # the subject's right comes first
    arc = np.array([1.0, 0, 0]) * ear[0] * np.sin(angle) + (ear + (chin - ear) * np.cos(angle)) * np.array([0, 1.0, 1])
    points = np.concatenate([arc, landmark_model("ibug68").mean])
    return np.array([np.square(template.vertices - point).sum(1).argmin() for point in points])


def write(writer: ZipWriter, scenes: Scenes, fps: float, test: int, workers: int, say=lambda index: None) -> None:
    """Write the frames in the project's own format, the last ``test`` as the split "test"."""
    count = len(scenes.weights)
    if not 0 <= test <= count:
        raise UserError(f"{test} of {count} frames cannot be the test frames; choose fewer.")
    records, landmarks = [], []
    for index, (rgb, mask, points) in enumerate(frames(scenes, workers)):
        writer.add_file(f"images/{index:05d}.png", encode_png(rgb))
        writer.add_file(f"masks/{index:05d}.png", encode_png(mask))
        pose = scenes.labels[index, :16].reshape(4, 4)
        records.append({
            "file_path": f"images/{index:05d}.png", "mask_path": f"masks/{index:05d}.png", "frame": index,
            "split": "test" if index >= count - test else "train", "transform_matrix": _plain(pose * [1, -1, -1, 1]),
            "cam2world": _plain(pose), "expression": _plain(scenes.weights[index]),
        })  # fmt: skip
        landmarks.append(points)
        say(index)
    side, k = scenes.resolution, scenes.labels[0, 16:].reshape(3, 3)
    if not np.allclose(scenes.labels[:, 16:], scenes.labels[0, 16:]):
        raise UserError("The frames of a sequence need one lens, but these cameras have several.")
    content = {"w": side, "h": side, "fl_x": k[0, 0] * side, "fl_y": k[1, 1] * side, "cx": k[0, 2] * side,
               "cy": k[1, 2] * side, "fps": fps, "expression_names": list(scenes.names), "frames": records}
    writer.add_file("transforms.json", json.dumps(content).encode())
    writer.add_file("geometry.npz", encode_npz(landmarks68=np.stack(landmarks).astype(np.float32)))


def _plain(values: Sequence) -> list:
    return np.round(values, 7).tolist()
