"""Smooth random patterns and steps for painting."""

import functools
from collections.abc import Sequence

import numpy as np


@functools.lru_cache(maxsize=1)
def _tile() -> np.ndarray:  # [256, 256] in [-1, 1], periodic
    return np.random.RandomState(20240611).uniform(-1, 1, (256, 256)).astype(np.float32)


def noise(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Value noise in [-1, 1] with features of size one; ``u``, ``v`` of any equal shape."""
    iu = np.floor(u)
    whole = iu.astype(np.int32)
    return _between(whole & 255, (whole + 1) & 255, u - iu, v)


def ring(phi: np.ndarray, v: np.ndarray, count: int, seed: float) -> np.ndarray:
    """Value noise with ``count`` features round the head, without a seam at ``phi`` = ±pi."""
    u = phi * (count / (2 * np.pi))
    iu = np.floor(u)
    whole, shift = iu.astype(np.int32) % count, int(seed)
    following = np.where(whole + 1 == count, 0, whole + 1)
    return _between((whole + shift) & 255, (following + shift) & 255, u - iu, v)


def _between(iu: np.ndarray, ju: np.ndarray, fu: np.ndarray, v: np.ndarray) -> np.ndarray:
    iv = np.floor(v)
    fv = v - iv
    fu, fv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
    iv = iv.astype(np.int32) & 255
    iv, jv = iv << 8, ((iv + 1) & 255) << 8
    tile = _tile()
    a, b, c, d = tile.take(iv | iu), tile.take(iv | ju), tile.take(jv | iu), tile.take(jv | ju)
    low = a + (b - a) * fu
    return low + (c + (d - c) * fu - low) * fv


def step(x: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, a cubic between; falling where ``low`` is the larger."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bell(*offsets_and_sigmas: tuple[np.ndarray, float]) -> np.ndarray:
    """Gaussian of height one from pairs (offset, sigma)."""
    return np.exp(-0.5 * sum((offset / sigma) ** 2 for offset, sigma in offsets_and_sigmas))


def linear(srgb: np.ndarray | Sequence[float]) -> np.ndarray:
    """sRGB values in [0, 255] to linear light in [0, 1], float32 (all painting is done in it)."""
    x = np.asarray(srgb, np.float64) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


_STEPS = 4096  # of the table below per unit of the square root of light


@functools.lru_cache(maxsize=1)
def _display_table() -> np.ndarray:
    x = (np.arange(2 * _STEPS + 1) / _STEPS) ** 2
    x = np.where(x > 0.8, 0.8 + 0.2 * np.tanh((x - 0.8) / 0.2), x)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055).astype(np.float32)


def display(light: np.ndarray) -> np.ndarray:
    """Linear light to sRGB in [0, 1], highlights rolled off above 0.8 instead of clipped.

    Read from a table that is finer than a sixteenth of a step of an 8-bit image.
    """
    place = np.sqrt(np.clip(light, 0.0, 4.0)) * _STEPS
    return _display_table().take((place + 0.5).astype(np.int32))


def power(x: np.ndarray, exponent: int) -> np.ndarray:
    """Whole powers by multiplication: several times faster than the general power."""
    result = None
    while True:
        if exponent & 1:
            result = x if result is None else result * x
        exponent >>= 1
        if not exponent:
            return np.ones_like(x) if result is None else result
        x = x * x
