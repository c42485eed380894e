"""Who is seen in which image of a synthetic data set, and the processes that draw them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from gghead.cameras import Cameras
from gghead.data.synthetic.config import Request
from gghead.data.synthetic.figure import Figure, pose
from gghead.data.synthetic.person import (
    Light,
    Person,
    sample_expression,
    sample_gaze,
    sample_light,
    sample_person,
)
from gghead.data.synthetic.render import Image, draw_figure
from gghead.torch_utils.rng import derive_seed

YAW_STD, PITCH_STD, ROLL_STD = 0.30, 0.15, 0.04  # radians, about as in FFHQ
FULL_PITCH_STD = 0.20
_CHUNK = 8  # images per message between processes
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Scene = tuple[Image, np.ndarray, dict]  # image, label [25], record for dataset.json


def _random(seed: int, *stream: int | str) -> np.random.RandomState:
    return np.random.RandomState(derive_seed(seed, *stream) % 2**32)


def sample_label(random: np.random.RandomState, cameras: str) -> np.ndarray:  # [25] float64
    """Draw a camera at radius 2.7 that looks at the origin."""
    full = cameras == "full"
    yaw = random.uniform(-np.pi, np.pi) if full else random.normal(0, YAW_STD)
    pitch = random.normal(0, FULL_PITCH_STD if full else PITCH_STD)
    roll = random.normal(0, ROLL_STD)
    yaw, pitch, roll = (
        torch.tensor(angle, dtype=torch.float64) for angle in (yaw, np.clip(pitch, -1.2, 1.2), roll)
    )
    return Cameras.orbit(yaw, pitch, roll).label().reshape(-1).numpy()


def draw(request: Request, index: int) -> Scene:
    """Draw image ``index`` of the data set: a pure function of its arguments."""
    view, expression_id = index % request.views, index // request.views % request.expressions
    subject = index // (request.views * request.expressions)
    figure, gaze = _figure(request.seed, subject, expression_id)
    label = sample_label(_random(request.seed, "camera", index), request.cameras)
    record: dict[str, Any] = {"subject": subject, "expression_id": expression_id, "camera": view}
    record["blendshapes"] = {
        name: round(value, 4) for name, value in figure.expression.items() if value > 0
    }
    record["extras"] = {"gaze": [round(angle, 4) for angle in gaze]}
    return draw_figure(figure, label, request.resolution), label, record


@dataclass(frozen=True, eq=False)
class Appearance:
    """Who is seen, doing what."""

    person: Person
    light: Light
    expression: dict[str, float]
    """Blendshape weights."""
    gaze: tuple[float, float]
    """Radians to the subject's left and upwards."""


def sample_appearance(seed: int, subject: int, expression_id: int) -> Appearance:
    """Draw an expression of a subject: what all its views share."""
    random = _random(seed, "subject", subject)
    person, light = sample_person(random), sample_light(random)
    expression = sample_expression(_random(seed, "expression", subject, expression_id))
    gaze = sample_gaze(_random(seed, "gaze", subject, expression_id))
    return Appearance(person, light, expression, gaze)


@lru_cache(maxsize=1)
def _figure(seed: int, subject: int, expression_id: int) -> tuple[Figure, tuple[float, float]]:
    scene = sample_appearance(seed, subject, expression_id)
    return pose(scene.person, scene.expression, scene.light, scene.gaze), scene.gaze


def scenes(request: Request, workers: int = 1) -> Iterator[Scene]:
    """Yield all images in order, drawn by ``workers`` processes of one thread each."""
    yield from in_processes(partial(draw, request), request.num, workers)


def in_processes(function: Callable[[int], Any], count: int, workers: int) -> Iterator[Any]:
    """Yield ``function(0)`` … ``function(count - 1)``, computed by ``workers`` processes.

    Each has one thread.
    """
    workers = min(workers, -(-count // _CHUNK))
    if workers == 1:
        yield from map(function, range(count))
        return
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # read by the libraries when a process starts
    in_main = threading.current_thread() is threading.main_thread()
    # Ctrl-C is this process's, which ends the others: they inherit that they ignore it.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main else None
    try:
        pool = multiprocessing.get_context("spawn").Pool(workers)
    finally:
        if in_main:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    with pool:
        yield from pool.imap(function, range(count), chunksize=_CHUNK)
        pool.close()
        pool.join()
