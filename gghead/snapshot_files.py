"""Which file a network's name stands for, and what its header says.

It needs no torch, so that commands answer before torch loads.
"""

import json
import os
from pathlib import Path

from gghead.torch_utils.errors import MissingFile, UserError
from gghead.torch_utils.files import by_number

FORMAT = "gghead/1"
SHIPPED = {"demo": Path(__file__).parent / "weights" / "demo.safetensors"}
"""Networks that come with the package, by name; ``gghead/weights/README.md`` says how they were
made."""
KINDS = {
    "generator": "a generator of heads",
    "reconstructor": "a reconstructor from views",
    "expression": "an expression transformer",
    "prior": "a prior over latents",
    "avatar": "an avatar of one person",
}
RUNS = Path("training-runs")
"""Where train.py writes unless told otherwise."""
# of the files in run folders
_STEMS = ("network-snapshot", "reconstructor", "expression", "prior", "avatar")
_TAKEN_BY = {
    "avatar": "; `gghead animate` takes it",
    "prior": "; `gghead sample` takes it as `prior=FILE`, beside the network that it belongs to",
    "expression": "; `gghead animate` takes it as motion=FILE, beside its network",
}
_IMAGES, _VIDEOS = (
    (".png", ".jpg", ".jpeg", ".bmp"),
    (
        ".mp4",
        ".webp",
        ".gif",
        ".mov",
        ".avi",
        ".webm",
    ),
)
_WANTED = "a network is a .safetensors file of train.py, its run folder, or demo"
_LONGEST_HEADER = 100_000_000  # bytes; what the safetensors library accepts


def snapshot_file(name: str | os.PathLike) -> Path:
    """Return the file that ``name`` stands for.

    It is a shipped network, a snapshot, or the newest one of a run folder.

    A shipped name is that network, whatever lies in the present folder; ``./demo`` and
    ``Path("demo")`` are files. Raises ``UserError`` where there is none.
    """
    if isinstance(name, str) and name in SHIPPED:
        return SHIPPED[name]
    path = Path(name)
    if path.is_dir():
        return latest_snapshot(name)
    if not path.is_file():
        raise MissingFile(
            f"The network {name} does not exist; name a snapshot file, the folder of a training run"
            f" or one of the networks that are shipped ({', '.join(SHIPPED)})."
        )
    return path


def snapshots(run: str | os.PathLike) -> list[Path]:
    """The snapshots in a run folder, the newest last."""
    return by_number(path for stem in _STEMS for path in Path(run).glob(f"{stem}-*.safetensors"))


def latest_snapshot(run: str | os.PathLike) -> Path:
    """The newest snapshot in a run folder: most kimg, or most iterations.

    Raises ``UserError`` if there is none.
    """
    found = snapshots(run)
    if found:
        return found[-1]
    inside = sorted(path for path in Path(run).glob("*") if path.is_dir() and snapshots(path))
    if inside:
        raise UserError(f"{run} is no run but holds {len(inside)}; name one, such as {inside[-1]}.")
    raise UserError(
        f"{run} holds no {' and no '.join(f'{stem}-*.safetensors' for stem in _STEMS)}; name a run"
        " of train.py or of another train_*.py, or a snapshot file."
    )


def latest_run(root: str | os.PathLike = RUNS) -> Path:
    """The run of train.py below ``root`` with the highest number that holds a snapshot.

    ``UserError`` without one.
    """
    runs = {path.parent for path in Path(root).glob("*/network-snapshot-*.safetensors")}
    numbered = [run for run in runs if run.name.partition("-")[0].isdecimal()]
    if not numbered:
        raise UserError(
            f"There is no run with a network in {root} yet; name one with `network=RUN`, or take"
            " the shipped one with `network='demo'`."
        )
    return max(numbered, key=lambda run: int(run.name.partition("-")[0]))


def read_header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file.

    Raises ``UserError`` for what is none, saying what it is instead.
    """
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = os.fstat(file.fileno()).st_size
            if size < 8 or length > min(size - 8, _LONGEST_HEADER):
                raise ValueError("its header is longer than the file")
            metadata = json.loads(file.read(length)).get("__metadata__", {})
    except (ValueError, AttributeError, OSError, RecursionError) as error:
        raise UserError(no_network(path, str(error))) from error
    return metadata if isinstance(metadata, dict) else {}


def seen_yaws(path: Path) -> tuple[float, float] | None:
    """Yaws in degrees that a network's training data show heads from; all sides are (-180, 180).

    None where its file does not say. Errors as ``read_header``.
    """
    said = json.loads(read_header(path).get("provenance", "{}")).get("yaw")
    return None if said is None else (float(said[0]), float(said[1]))


def no_network(path: Path, why: str) -> str:
    """One sentence about a file that is no safetensors file."""
    ending = path.suffix.lower()
    if ending == ".ply":
        return (
            f"{path} is a head of splats, not the network that makes heads; any splat viewer opens"
            " it, and gghead.Gaussians.load_ply reads it."
        )
    if ending in _IMAGES:
        return (
            f"{path} is an image, not a network; {_WANTED}. `gghead invert` finds the"
            " head in an image."
        )
    if ending in _VIDEOS:
        return f"{path} is a video, not a network; {_WANTED}."
    if ending in (".pkl", ".pickle"):
        return (
            f"{path} is a pickle, as StyleGAN, EG3D and GGHead write networks: it holds their code,"
            f" which is not run here; {_WANTED}."
        )
    if ending in (".pt", ".pth"):
        return f"{path} is a state to continue a run from, or a foreign file; {_WANTED}."
    if ending in (".zip", ".tar", ".csv", ".json"):
        return f"{path} is a {ending} file, not a network; {_WANTED}."
    if ending == ".safetensors":
        return (
            f"{path} is truncated or no safetensors file ({why}); copy it again, or name another"
            " snapshot."
        )
    return f"{path} is no safetensors file ({why}); {_WANTED}."


def expect_kind(path: Path, metadata: dict[str, str], kind: str | None) -> None:
    """Raise ``UserError`` unless the header is that of a model of ``kind`` (None = any)."""
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path} {_foreign(metadata)}.")
    found = metadata.get("kind", "")
    inside = {"reconstructor": "generator"}.get(found)  # a reconstructor holds a generator
    if found not in KINDS or kind not in (None, found, inside):
        said = KINDS.get(found, f"a model of the unknown kind {found!r}")
        wanted = (
            f"{KINDS[kind]} is needed here"
            if kind
            else f"only {' or '.join(KINDS.values())} can be loaded"
        )
        hint = _TAKEN_BY.get(found, "") if kind == "generator" else ""
        raise UserError(f"{path} is {said}, but {wanted}{hint}.")


def _foreign(metadata: dict[str, str]) -> str:
    found = str(metadata.get("format"))
    if found.startswith("gghead-latent"):
        return (
            "holds a latent, not a network; give it as `latents=FILE`, its network as"
            " `network=FILE`"
        )
    if found.startswith("gghead-directions"):
        return (
            "holds directions, not a network; give it as `directions=FILE`, its network as"
            " `network=FILE`"
        )
    return f"has format {metadata.get('format')!r}, but this version reads '{FORMAT}'"
