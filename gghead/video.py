"""Frames to a file.

.mp4 through PyAV, animated .webp and .gif through Pillow everywhere.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import move_into_place

ENDINGS = (".mp4", ".webp", ".gif")


def save_video(
    frames: np.ndarray | Sequence[np.ndarray],  # uint8 [T, H, W, 3]
    path: str | Path,
    fps: float = 30.0,
) -> None:
    """Write ``frames`` as .mp4 (H.264), .webp or .gif, by the name's ending.

    The file appears whole or not at all. In .mp4, odd sizes get one more row or column, because
    H.264's usual pixel format halves the color resolution. .gif rounds frame times to 1/100 s,
    .webp to 1/1000 s. Raises ``ValueError`` for frames of a wrong shape or type, ``UserError`` for
    an unknown ending, a PyAV that does not load or cannot encode them, a failing disk.
    """
    path = Path(path)
    check_writable(path)
    suffix = path.suffix.lower()
    writers: dict[str, Callable[[np.ndarray, Path, float], None]] = dict(
        zip(ENDINGS, (_write_mp4, _write_webp, _write_gif), strict=True)
    )
    frames = _check_frames(frames)
    if not fps > 0:
        raise ValueError(f"fps must be greater than 0, but it is {fps}.")
    part = path.with_name(f".{path.stem}.part{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            writers[suffix](frames, part, fps)
            move_into_place(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path} could not be written ({error.strerror or error}); free space or choose another"
            " folder."
        ) from error


def check_ending(path: str | Path) -> None:
    """Raise ``UserError`` unless ``path`` names a format that videos are written in."""
    if Path(path).suffix.lower() not in ENDINGS:
        raise UserError(
            f"{path} must end in {', '.join(ENDINGS)}: videos are written in these formats."
        )


def check_writable(path: str | Path) -> None:
    """The same, and also unless PyAV loads for .mp4; before minutes of work for the frames."""
    check_ending(path)
    if Path(path).suffix.lower() == ".mp4":
        load_pyav(path, "write .webp or .gif instead")


def load_pyav(file: str | Path, otherwise: str) -> ModuleType:
    """Import PyAV, which few runs need.

    Raises ``UserError`` where it does not load; that says which ``file`` needs it and what to do
    ``otherwise`` than install it.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(
            f"{file} needs PyAV, which does not load ({error}): pip install av, or {otherwise}."
        ) from error
    return av


def _check_frames(frames: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    shapes = sorted({np.shape(frame) for frame in frames})
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] != 3:
        raise ValueError(
            f"A video needs frames of one shape [H, W, 3], but these have the shapes {shapes}."
        )
    frames = np.asarray(frames)
    if frames.dtype != np.uint8:
        raise ValueError(f"A video needs uint8 frames, but these are {frames.dtype}.")
    return frames


def _times(count: int, fps: float, ticks: int) -> list[int]:
    """Return whole frame durations in 1/ticks seconds.

    Their sums stay within half a tick of the exact times.
    """
    ends = [round(i * ticks / fps) for i in range(count + 1)]
    return [max(1, after - before) for before, after in zip(ends[:-1], ends[1:], strict=True)]


def _write_webp(frames: np.ndarray, path: Path, fps: float) -> None:
    first, *rest = [Image.fromarray(frame) for frame in frames]
    duration = _times(len(frames), fps, 1000)
    first.save(
        path, save_all=True, append_images=rest, duration=duration, loop=0, quality=85, method=4
    )


def _write_gif(frames: np.ndarray, path: Path, fps: float) -> None:
    first, *rest = [
        Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE) for frame in frames
    ]
    duration = [10 * time for time in _times(len(frames), fps, 100)]
    first.save(path, save_all=True, append_images=rest, duration=duration, loop=0)


def _write_mp4(frames: np.ndarray, path: Path, fps: float) -> None:
    import av
    from av.codec.codec import UnknownCodecError
    from av.error import FFmpegError

    height, width = frames.shape[1:3]
    frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    try:
        # FFmpeg takes http:x.mp4 for an address and -x.mp4 for an option; a path from the root is
        # neither.
        with av.open(str(path.absolute()), mode="w", format="mp4") as container:
            stream = container.add_stream(
                "libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "17"}
            )
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            for frame in frames:
                image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                container.mux(stream.encode(image))
            container.mux(stream.encode())
    except OSError:
        raise  # the disk's; save_video names the file
    except (FFmpegError, UnknownCodecError) as error:
        raise UserError(
            f"PyAV could not write {width}x{height} pixels as .mp4 ({error}): write .webp or .gif"
            " instead."
        ) from error
