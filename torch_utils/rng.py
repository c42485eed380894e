"""Random generators derived from names.

So every random choice can be repeated from (seed, stream) alone.
"""

import hashlib

import torch


def derive_seed(seed: int, *stream: int | str) -> int:
    """Return a 63-bit seed that depends on ``seed`` and on every part of ``stream``.

    Streams are hashed, so neighboring seeds or steps give unrelated numbers (a plain sum would
    not).
    """
    text = "/".join([str(int(seed)), *(str(part) for part in stream)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *stream: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the stream's ``torch.Generator``, as ``generator(seed, "noise", rank, step)``."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *stream))
