"""How a synthetic person moves in front of a camera: smooth random curves of expression coefficients and head pose."""

from dataclasses import dataclass

import numpy as np

YAW, PITCH, ROLL = np.radians([13.0, 6.0, 4.0])  # standard deviations; nobody turns by more than twice as much
SHIFT = 0.02  # of the head across the picture, world units
_TURN_SECONDS, _FACE_SECONDS, _SPEECH_SECONDS = 1.2, 0.5, 0.09  # over which curves are smooth (standard deviations)
_BLINK = np.array([0.3, 0.8, 1.0, 1.0, 0.7, 0.35, 0.1])  # at 25 frames per second
_BLINK_PAUSE = (1.0, 4.0)  # seconds
_OFTEN = {"mouthSmile": 0.9, "browInnerUp": 0.8, "browOuterUp": 0.7, "browDown": 0.8, "eyeSquint": 0.5, "eyeWide": 0.5,
          "cheekSquint": 0.6, "mouthFrown": 0.6}  # fmt: skip
_SPEECH = {"jawOpen": 0.8, "mouthFunnel": 0.6, "mouthPucker": 0.6, "mouthStretch": 0.4, "mouthUpperUp": 0.4,
           "mouthLowerDown": 0.5, "mouthPress": 0.4}  # fmt: skip
_SELDOM = 0.4  # largest value of all others


@dataclass(frozen=True)
class Motion:
    """T frames."""

    names: tuple[str, ...]
    weights: np.ndarray  # [T, len(names)] in [0, 1]
    turns: np.ndarray  # [T, 3] yaw, pitch, roll of the camera about the head, radians
    shifts: np.ndarray  # [T, 2] what the camera looks at beside the origin, world units


def sample_motion(random: np.random.RandomState, names: tuple[str, ...], frames: int, fps: float) -> Motion:
    """Draw a motion: speech in phrases with pauses, smiles and brows that come and go, blinks, a head that turns.

    Left and right halves move together but for a slight lean.
    """
    talking = np.clip(smooth(random, frames, fps * _TURN_SECONDS) + 0.6, 0, 1)
    weights = np.zeros((frames, len(names)))
    halves: dict[str, np.ndarray] = {}
    for column, name in enumerate(names):
        whole = name.removesuffix("Left").removesuffix("Right") if name not in ("jawLeft", "jawRight", "mouthLeft",
                                                                                "mouthRight") else name  # fmt: skip
        if whole not in halves:
            halves[whole] = _curve(random, whole, talking, frames, fps)
        lean = 1 + random.normal(0, 0.06) if whole != name else 1.0
        weights[:, column] = np.clip(halves[whole] * lean, 0, 1)
    limits = 2 * np.array([YAW, PITCH, ROLL])
    turns = np.stack([smooth(random, frames, fps * _TURN_SECONDS) * limit / 2 for limit in limits], 1)
    shifts = SHIFT * np.stack([smooth(random, frames, fps * _TURN_SECONDS) for _ in range(2)], 1)
    return Motion(names, weights, np.clip(turns, -limits, limits), np.clip(shifts, -2 * SHIFT, 2 * SHIFT))


def _curve(random: np.random.RandomState, name: str, talking: np.ndarray, frames: int, fps: float) -> np.ndarray:
    if name == "eyeBlink":
        return _blinks(random, frames, fps)
    if name == "mouthClose":  # only means something together with an open jaw
        return np.zeros(frames)
    if name in _SPEECH:
        return np.clip(_SPEECH[name] * talking * (0.25 + 0.4 * smooth(random, frames, fps * _SPEECH_SECONDS)), 0, 1)
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
    """Noise of unit variance, smooth over ``sigma`` frames (the standard deviation of a Gaussian window)."""
    reach = max(int(np.ceil(3 * sigma)), 1)
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    noise = random.normal(size=frames + 2 * reach)
    # A loop over the window, not a convolution of numpy's: sums in a fixed order do not depend on the processor.
    total = np.zeros(frames)
    for place, weight in enumerate(window):
        total = total + weight * noise[place : place + frames]
    return total / np.sqrt((window**2).sum())
