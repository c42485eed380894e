"""A synthetic tracked sequence: expressions and a camera that move, drawn frame by frame."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from gghead.cameras import Cameras
from gghead.data.photos.landmarks import landmark_model
from gghead.data.synthetic.figure import head_vertices
from gghead.data.synthetic.person import sample_light, sample_person
from gghead.data.synthetic.render import render
from gghead.data.synthetic.scenes import in_processes
from gghead.data.zip_writer import ZipWriter, encode_npz, encode_png
from gghead.template import load_template
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import derive_seed

# standard deviations; nobody turns by more than twice as much
YAW, PITCH, ROLL = np.radians([13.0, 6.0, 4.0])
SHIFT = 0.02  # of the head across the image, world units
# over which curves are smooth (standard deviations)
_TURN_SECONDS, _FACE_SECONDS, _SPEECH_SECONDS = 1.2, 0.5, 0.09
_BLINK = np.array([0.3, 0.8, 1.0, 1.0, 0.7, 0.35, 0.1])  # at 25 frames per second
_BLINK_PAUSE = (1.0, 4.0)  # seconds
_OFTEN = {
    "mouthSmile": 0.9,
    "browInnerUp": 0.8,
    "browOuterUp": 0.7,
    "browDown": 0.8,
    "eyeSquint": 0.5,
    "eyeWide": 0.5,
    "cheekSquint": 0.6,
    "mouthFrown": 0.6,
}
_SPEECH = {
    "jawOpen": 0.8,
    "mouthFunnel": 0.6,
    "mouthPucker": 0.6,
    "mouthStretch": 0.4,
    "mouthUpperUp": 0.4,
    "mouthLowerDown": 0.5,
    "mouthPress": 0.4,
}
_SELDOM = 0.4  # largest value of all others


@dataclass(frozen=True)
class Motion:
    """T frames."""

    names: tuple[str, ...]
    weights: np.ndarray  # [T, len(names)] in [0, 1]
    turns: np.ndarray  # [T, 3] yaw, pitch, roll of the camera about the head, radians
    shifts: np.ndarray  # [T, 2] what the camera looks at beside the origin, world units


def sample_motion(
    random: np.random.RandomState, names: tuple[str, ...], frames: int, fps: float
) -> Motion:
    """Draw a motion: speech in phrases, smiles and brows, blinks, a head that turns.

    Left and right halves move together but for a slight lean.
    """
    talking = np.clip(smooth(random, frames, fps * _TURN_SECONDS) + 0.6, 0, 1)
    weights = np.zeros((frames, len(names)))
    halves: dict[str, np.ndarray] = {}
    for column, name in enumerate(names):
        whole = (
            name.removesuffix("Left").removesuffix("Right")
            if name not in ("jawLeft", "jawRight", "mouthLeft", "mouthRight")
            else name
        )
        if whole not in halves:
            halves[whole] = _curve(random, whole, talking, frames, fps)
        lean = 1 + random.normal(0, 0.06) if whole != name else 1.0
        weights[:, column] = np.clip(halves[whole] * lean, 0, 1)
    limits = 2 * np.array([YAW, PITCH, ROLL])
    turns = np.stack(
        [smooth(random, frames, fps * _TURN_SECONDS) * limit / 2 for limit in limits], 1
    )
    shifts = SHIFT * np.stack([smooth(random, frames, fps * _TURN_SECONDS) for _ in range(2)], 1)
    return Motion(
        names, weights, np.clip(turns, -limits, limits), np.clip(shifts, -2 * SHIFT, 2 * SHIFT)
    )


def _curve(
    random: np.random.RandomState, name: str, talking: np.ndarray, frames: int, fps: float
) -> np.ndarray:
    if name == "eyeBlink":
        return _blinks(random, frames, fps)
    if name == "mouthClose":  # only means something together with an open jaw
        return np.zeros(frames)
    if name in _SPEECH:
        return np.clip(
            _SPEECH[name] * talking * (0.25 + 0.4 * smooth(random, frames, fps * _SPEECH_SECONDS)),
            0,
            1,
        )
    most, seldom = _OFTEN.get(name, _SELDOM), 0.3 if name in _OFTEN else 1.0
    return np.clip(most * (smooth(random, frames, fps * _FACE_SECONDS) - seldom) / 1.5, 0, most)


def _blinks(random: np.random.RandomState, frames: int, fps: float) -> np.ndarray:
    length = max(round(len(_BLINK) * fps / 25), 1)
    blink = np.interp(np.linspace(0, len(_BLINK) - 1, length), np.arange(len(_BLINK)), _BLINK)
    curve, at = np.zeros(frames + length), 0.0
    while (at := at + fps * random.uniform(*_BLINK_PAUSE)) < frames:
        first = int(at)
        curve[first : first + length] = np.maximum(curve[first : first + length], blink)
    return curve[:frames]


def smooth(random: np.random.RandomState, frames: int, sigma: float) -> np.ndarray:  # [frames]
    """Noise of unit variance, smoothed by a Gaussian window of ``sigma`` frames."""
    reach = max(int(np.ceil(3 * sigma)), 1)
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    noise = random.normal(size=frames + 2 * reach)
    # A loop over the window, not a convolution of numpy's: sums in a fixed order do not depend on
    # the processor.
    total = np.zeros(frames)
    for place, weight in enumerate(window):
        total = total + weight * noise[place : place + frames]
    return total / np.sqrt((window**2).sum())


FOCAL = 2.9  # of the image's width: room for a head that turns
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
            raise ValueError(
                "A sequence needs a camera for every frame and at least one frame, but there are "
                f"{len(self.weights)} frames and {len(self.labels)} cameras."
            )


def sample_scenes(frames: int, resolution: int, seed: int, fps: float) -> Scenes:
    """Scenes of a random motion."""
    names = tuple(load_template("head").blendshapes)
    motion = sample_motion(
        np.random.RandomState(derive_seed(seed, "motion") % 2**32), names, frames, fps
    )
    target = np.concatenate([motion.shifts, np.zeros((frames, 1))], 1)
    cameras = Cameras.orbit(
        *(torch.from_numpy(angle) for angle in motion.turns.T),
        focal=FOCAL,
        target=torch.from_numpy(target),
    )
    return Scenes(resolution, seed, names, motion.weights.round(4), cameras.label().numpy())


def draw(scenes: Scenes, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image over white [R, R, 3], mask [R, R] and landmarks [68, 3] of a frame."""
    random = np.random.RandomState(derive_seed(scenes.seed, "subject", 0) % 2**32)
    person, light = sample_person(random), sample_light(random)
    weights = {
        name: float(value)
        for name, value in zip(scenes.names, scenes.weights[index], strict=True)
        if value
    }
    image = render(person, weights, light, scenes.labels[index], scenes.resolution)
    alpha = image.alpha[..., None] / 255.0
    rgb = np.rint(image.rgb * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return rgb, image.alpha, head_vertices(person, weights)[landmark_vertices()]


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
    arc = np.array([1.0, 0, 0]) * ear[0] * np.sin(angle) + (
        ear + (chin - ear) * np.cos(angle)
    ) * np.array([0, 1.0, 1])
    points = np.concatenate([arc, landmark_model("ibug68").mean])
    return np.array([np.square(template.vertices - point).sum(1).argmin() for point in points])


def write(
    writer: ZipWriter,
    scenes: Scenes,
    fps: float,
    test: int,
    workers: int,
    say: Callable[[int], object] = lambda index: None,
) -> None:
    """Write the frames in the project's own format, the last ``test`` as the split "test"."""
    count = len(scenes.weights)
    if not 0 <= test <= count:
        raise UserError(f"{test} of {count} frames cannot be the test frames; choose fewer.")
    records, landmarks = [], []
    for index, (rgb, mask, points) in enumerate(frames(scenes, workers)):
        writer.add_file(f"images/{index:05d}.png", encode_png(rgb))
        writer.add_file(f"masks/{index:05d}.png", encode_png(mask))
        pose = scenes.labels[index, :16].reshape(4, 4)
        records.append(
            {
                "file_path": f"images/{index:05d}.png",
                "mask_path": f"masks/{index:05d}.png",
                "frame": index,
                "split": "test" if index >= count - test else "train",
                "transform_matrix": _plain(pose * [1, -1, -1, 1]),
                "cam2world": _plain(pose),
                "expression": _plain(scenes.weights[index]),
            }
        )
        landmarks.append(points)
        say(index)
    side, k = scenes.resolution, scenes.labels[0, 16:].reshape(3, 3)
    if not np.allclose(scenes.labels[:, 16:], scenes.labels[0, 16:]):
        raise ValueError("The frames of a sequence need one lens, but these cameras have several.")
    content = {
        "w": side,
        "h": side,
        "fl_x": k[0, 0] * side,
        "fl_y": k[1, 1] * side,
        "cx": k[0, 2] * side,
        "cy": k[1, 2] * side,
        "fps": fps,
        "expression_names": list(scenes.names),
        "frames": records,
    }
    writer.add_file("transforms.json", json.dumps(content).encode())
    writer.add_file("geometry.npz", encode_npz(landmarks68=np.stack(landmarks).astype(np.float32)))


def _plain(values: np.ndarray | Sequence[float]) -> list:
    return np.round(values, 7).tolist()
