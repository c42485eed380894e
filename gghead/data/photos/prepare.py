"""A folder of photos to a data set zip.

In parallel, resumable, and the same bytes however many processes do it.
"""

import io
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gghead.cameras import Cameras
from gghead.data.camera_labels import label_array
from gghead.data.dataset_zip import DatasetInfo, DatasetWriter, FrameRecord, image_name
from gghead.data.files import Source, is_image, open_source
from gghead.data.photos.cache import PhotoCache
from gghead.data.photos.config import PhotoOptions
from gghead.data.photos.photo import Item, PhotoWorker, Skip
from gghead.data.photos.report import PhotoReport
from gghead.data.zip_writer import ZipWriter, encode_png
from gghead.torch_utils.config import to_dict
from gghead.torch_utils.errors import UserError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Progress = Callable[[int, int, int], None]  # photos done, photos in all, faces kept


def prepare(
    source: str | os.PathLike,
    dest: str | os.PathLike,
    options: PhotoOptions,
    cameras: str | os.PathLike | None = None,
    mirror: bool = False,
    masks_zip: bool = False,
    workers: int = 1,
    max_images: int | None = None,
    progress: Progress = lambda done, total, kept: None,
) -> PhotoReport:
    """Write ``dest`` from the photos in ``source`` (a folder or zip).

    ``<stem>_report.json`` is written beside it.

    Finished photos are kept in the folder ``.<name of dest>.work`` until all is done: after an
    interruption the same call continues there.

    Args:
        cameras: JSON of ready cameras as EG3D's dataset.json; photos without one are skipped, the
            others not cropped.
        mirror: Add every image mirrored as ``<name>_mirror.png``, as EG3D's FFHQ does.
        masks_zip: Write the masks to ``<stem>_masks_<matte>.zip`` as well, named as GGHead reads
            them.
        workers: Processes, each with one thread; 0 works in this process.
        progress: Called after every photo.

    Raises:
        UserError: nothing to read, wrong options, no usable photo (the report is written all the
            same), full disk.
    """
    dest = Path(dest)
    masks_kind = "folder" if options.masks else options.matte.split(":")[0]
    if masks_zip and masks_kind == "none":
        raise UserError("`masks_zip=True` needs masks; choose a matte or a folder of masks.")
    files = open_source(source)
    report_file = dest.with_name(f"{dest.stem}_report.json")
    masks_file = dest.with_name(f"{dest.stem}_masks_{masks_kind}.zip")
    try:
        names = _photo_names(files)[:max_images]
        labels = read_cameras(cameras, names, files) if cameras is not None else None
        others = [name for name in files.names() if not is_image(name) and not _is_hidden(name)]
        report = PhotoReport(len(names), others)
        with (
            DatasetWriter(dest) as writer,
            ZipWriter(masks_file) if masks_zip else nullcontext() as masks,
        ):
            cache = PhotoCache(work_folder(dest), files, options, labels)
            for done, (name, results) in enumerate(
                _results(cache, files, names, options, labels, workers), 1
            ):
                for result in results:
                    if isinstance(result, Skip):
                        report.skipped.append(
                            {"source": name, "reason": result.reason, "detail": result.detail}
                        )
                    else:
                        report.items.append(result.record)
                        _add(writer, masks, len(report.items) - 1, result, mirror)
                progress(done, len(names), len(report.items))
            report.save(
                report_file,
                {**to_dict(options), "cameras": cameras and str(cameras), "mirror": mirror},
            )
            if not report.items:
                raise UserError(_nothing_left_message(source, report, report_file))
    finally:
        files.close()
    shutil.rmtree(work_folder(dest), ignore_errors=True)
    return report


def work_folder(dest: Path) -> Path:
    """Where finished photos wait for the others."""
    return dest.with_name(f".{dest.name}.work")


def read_cameras(
    path: str | os.PathLike, names: list[str], files: Source
) -> dict[str, list[float]]:
    """Return the labels of the photos in ``names`` from a JSON as EG3D's dataset.json.

    The JSON's names are relative to the source or to its parent folder. Raises ``UserError`` if it
    is missing or broken, names none of the photos, or holds a camera that is none.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); give a JSON of cameras."
        ) from error
    given = DatasetInfo.parse(data, path).labels
    prefix = f"{Path(files.path).resolve().name}/"
    known = {name: given[key] for name in names for key in (name, prefix + name) if key in given}
    if not known:
        raise UserError(f"{path} names none of the photos in {files.path} (such as {names[0]}).")
    rows = label_array(known, list(known), path)  # checks them all
    return {
        name: [round(float(value), 7) for value in row]
        for name, row in zip(known, rows, strict=True)
    }


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _photo_names(files: Source) -> list[str]:
    names = [name for name in files.names() if is_image(name) and not _is_hidden(name)]
    if not names:
        raise UserError(
            f"There are no photos in {files.path} (png, jpg, jpeg, webp or bmp, also in"
            " sub-folders)."
        )
    return names


def _add(
    writer: DatasetWriter, masks: ZipWriter | None, index: int, item: Item, mirror: bool
) -> None:
    """Write an item, and its mirror image if wanted."""
    name = image_name(index)
    versions = [(name, item.image, item.mask, item.label, item.record)]
    if mirror:
        label = (
            Cameras.from_label(torch.tensor(item.label, dtype=torch.float64))
            .mirror()
            .label()
            .tolist()
        )
        record = {
            **item.record,
            "yaw": -item.record["yaw"],
            "roll": -item.record["roll"],
            "mirrored": True,
        }
        mask = _flip(item.mask) if item.mask else None
        versions.append(
            (f"{name.removesuffix('.png')}_mirror.png", _flip(item.image), mask, label, record)
        )
    for name, image, mask, label, record in versions:
        writer.add(name, image, label, mask, FrameRecord.parse({"file": name, **record}, name))
        if masks is not None and mask is not None:
            masks.add_file(name, mask)


def _flip(png: bytes) -> bytes:
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return encode_png(np.ascontiguousarray(np.asarray(image)[:, ::-1]))


def _nothing_left_message(source: str | os.PathLike, report: PhotoReport, report_file: Path) -> str:
    if set(report.reasons) == {"no face"}:
        return (
            f"No face was found in any of the {report.photos} photos of {source}; are they photos"
            " of faces, and upright? `landmarker=FILE.json` takes landmarks of another detector."
        )
    counts = ", ".join(f"{count} {reason}" for reason, count in report.reasons.items())
    return (
        f"None of the {report.photos} photos of {source} can be used ({counts}); {report_file} says"
        " why for each."
    )


# ---------------------------------------------------------------------------------------- processes


def _results(
    cache: PhotoCache,
    files: Source,
    names: list[str],
    options: PhotoOptions,
    labels: dict[str, list[float]] | None,
    workers: int,
) -> Iterator[tuple[str, list[Item | Skip]]]:
    """Yield the results of all photos in their order, from the cache where they are there."""
    work = (lambda name: cache.load(name) is None) if cache.folder.is_dir() else (lambda name: True)
    with _runner(cache, files, options, labels, workers) as submit:
        waiting: deque[tuple[str, Future | None]] = deque()
        # photos under way: enough to keep all busy, few enough to stop quickly
        ahead = 4 * max(workers, 1)
        for name in [*names, *[None] * ahead]:
            if name is not None:
                labeled = labels is None or name in labels
                waiting.append((name, submit(name) if labeled and work(name) else None))
            if waiting and (len(waiting) >= ahead or name is None):
                yield _finish(cache, labels, *waiting.popleft())


def _finish(
    cache: PhotoCache, labels: dict | None, name: str, future: Future | None
) -> tuple[str, list[Item | Skip]]:
    if labels is not None and name not in labels:
        return name, [Skip("no camera", "the JSON of cameras does not name it")]
    if future is not None:
        try:
            future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "A worker process was ended by the system, probably for want of memory; the same"
                " command with fewer `workers` continues where it stopped."
            ) from error
    results = cache.load(name)
    if results is None:
        raise UserError(
            f"The result of {name} in {cache.folder} has disappeared; the same command makes it"
            " again."
        )
    return name, results


@contextmanager
def _runner(
    cache: PhotoCache,
    files: Source,
    options: PhotoOptions,
    labels: dict[str, list[float]] | None,
    workers: int,
) -> Iterator[Callable[[str], Future]]:
    """Yield a function that starts the work on a photo."""
    if workers == 0:
        _start(cache, files, options, labels)
        try:
            yield _at_once
        finally:  # networks and files of this call, in a process that goes on
            _state.clear()
        return
    before = {key: os.environ.get(key) for key in _THREADS}
    # Set before the processes start: one thread each, which is faster in sum and rounds the same
    # for any number.
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    pool = ProcessPoolExecutor(
        workers, get_context("spawn"), _start, (cache, files, options, labels, True)
    )
    try:
        yield lambda name: pool.submit(_work, name)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


_state: dict = {}  # of a worker process


def _start(
    cache: PhotoCache,
    files: Source,
    options: PhotoOptions,
    labels: dict[str, list[float]] | None,
    process: bool = False,
) -> None:
    """Prepare this process for ``_work``; ``process``: it was started for nothing else."""
    if process:
        # Ctrl-C is the parent's; it lets started photos finish
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _state.clear()
    _state.update(cache=cache, files=files)
    try:
        _state["worker"] = PhotoWorker(options, labels)
    # an exception here would only break the pool: it is told with the first photo
    except UserError as error:
        _state["error"] = error


def _work(name: str) -> None:
    if "error" in _state:
        raise _state["error"]
    try:
        data = _state["files"].read(name)
    except (OSError, UserError) as error:
        _state["cache"].save(name, [Skip("unreadable", str(error))])
        return
    _state["cache"].save(name, _state["worker"].run(data, name))


def _at_once(name: str) -> Future:
    future: Future = Future()
    try:
        future.set_result(_work(name))
    except UserError as error:
        future.set_exception(error)
    return future
