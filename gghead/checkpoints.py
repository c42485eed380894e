"""Snapshots: weights in one safetensors file, with the config and provenance in its header.

No code is executed.

Kept are generators (EMA weights of a GAN), reconstructors (a view encoder and the generator behind
it), expression transformers for the latents of one of these, priors over the latents of a
generator, and avatars of one person. ``load`` reads all of them.
"""

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch
from torch import Tensor

from gghead.models.avatar import Avatar, AvatarModel
from gghead.models.avatar_config import AvatarConfig
from gghead.models.compressed_avatar import CompressedAvatar
from gghead.models.config import GeneratorConfig
from gghead.models.expression import ExpressionModel
from gghead.models.expression_config import ExpressionConfig
from gghead.models.generator import Generator
from gghead.models.prior import Prior
from gghead.models.prior_config import PriorConfig
from gghead.models.reconstructor import Reconstructor
from gghead.models.reconstructor_config import ReconstructorConfig
from gghead.snapshot_files import (
    FORMAT,
    KINDS,
    SHIPPED,
    expect_kind,
    latest_snapshot,
    no_network,
    snapshot_file,
)
from gghead.template import BUILT_IN, Template, load_template
from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.seal import SEAL, safetensors_are_whole, write_safetensors

__all__ = [
    "FORMAT",
    "KINDS",
    "SHIPPED",
    "SnapshotInfo",
    "latest_snapshot",
    "load",
    "load_with_encoder",
    "read_info",
    "save",
    "snapshot_file",
]

_GEOMETRY = ("vertices", "faces", "uvs", "uv_faces")


@dataclass(frozen=True)
class SnapshotInfo:
    """The header of a snapshot, readable without loading its tensors."""

    config: GeneratorConfig
    """What the generator is made of."""
    kimg: float
    """Thousands of real images shown to the discriminator when it was written."""
    provenance: dict
    """Data set, command, versions and hashes, as the training run recorded them."""


Model = Generator | Reconstructor | ExpressionModel | Prior | AvatarModel


@dataclass(frozen=True)
class _Kind:
    """How one of ``KINDS`` is kept."""

    classes: tuple[type[torch.nn.Module], ...]
    counter: str
    """What ``done`` counts, and its name in the header."""
    template: bool = False
    """Whether the geometry of the head template is kept, too."""


_KINDS = {
    "generator": _Kind((Generator,), "kimg", template=True),
    "reconstructor": _Kind((Reconstructor,), "step", template=True),
    "expression": _Kind((ExpressionModel,), "step"),
    "prior": _Kind((Prior,), "step"),
    "avatar": _Kind((Avatar, CompressedAvatar), "iteration"),
}
"""One row per kind; ``snapshot_files`` has their names in words and in files."""


def save(
    model: Model,
    path: str | os.PathLike,
    *,
    done: float = 0,
    provenance: dict | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model of any kind to ``path`` (safetensors, format ``gghead/1``).

    It is written to a temporary file beside ``path`` first.

    ``done`` is how far its training is: kimg of a generator, iterations of an avatar, steps of the
    others. ``dtype`` float16 halves the file of a generator or a reconstructor.

    Raises ``UserError`` if the disk is full or the folder cannot be written (a file that was there
    before is then still whole), and ``TypeError`` for what is no model, or for another dtype of the
    other kinds.
    """
    from safetensors.torch import save as to_bytes

    name = next((name for name, kind in _KINDS.items() if isinstance(model, kind.classes)), None)
    if name is None:
        raise TypeError(f"{type(model).__name__} is none of the models that are kept as snapshots.")
    kind = _KINDS[name]
    if dtype != torch.float32 and not kind.template:
        raise TypeError(f"{KINDS[name].capitalize()} is kept as it is, not as {dtype}.")
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    number = repr(float(done)) if kind.counter == "kimg" else str(int(done))
    metadata = {
        "format": FORMAT,
        "kind": name,
        "config": json.dumps(config_json.to_dict(model.config)),
        kind.counter: number,
    }
    if isinstance(model, Generator | Reconstructor):
        tensors = {
            key: value.to(dtype) if value.is_floating_point() else value
            for key, value in tensors.items()
        }
        template = (model.generator if isinstance(model, Reconstructor) else model).template
        for key in _GEOMETRY:
            array = getattr(template, key)
            exact = np.int32 if array.dtype.kind == "i" else np.float64
            tensors[f"template.{key}"] = torch.from_numpy(np.ascontiguousarray(array, dtype=exact))
        metadata = {"kimg": "0.0", **metadata, "template_sha256": template.sha256}
    metadata |= {"provenance": json.dumps(provenance or {}), **SEAL}
    write_safetensors(path, to_bytes(tensors, metadata))


def read_info(path: str | os.PathLike) -> SnapshotInfo:
    """Read the header of a generator's snapshot (or of the one in a reconstructor).

    Errors as ``load``.
    """
    path, metadata, _ = _read(path, tensors=False)
    expect_kind(path, metadata, "generator")
    return _info(path, metadata)


@overload
def load(path: Literal["demo"], device: torch.device | str = "cpu") -> Generator: ...
@overload
def load(
    path: str | os.PathLike, device: torch.device | str = "cpu", *, kind: Literal["generator"]
) -> Generator: ...
@overload
def load(
    path: str | os.PathLike, device: torch.device | str = "cpu", *, kind: Literal["reconstructor"]
) -> Reconstructor: ...
@overload
def load(
    path: str | os.PathLike, device: torch.device | str = "cpu", *, kind: Literal["expression"]
) -> ExpressionModel: ...
@overload
def load(
    path: str | os.PathLike, device: torch.device | str = "cpu", *, kind: Literal["prior"]
) -> Prior: ...
@overload
def load(
    path: str | os.PathLike, device: torch.device | str = "cpu", *, kind: Literal["avatar"]
) -> AvatarModel: ...
@overload
def load(
    path: str | os.PathLike, device: torch.device | str = "cpu", kind: str | None = None
) -> Model: ...
def load(
    path: str | os.PathLike, device: torch.device | str = "cpu", kind: str | None = None
) -> Model:
    """Load a model for evaluation: a snapshot file, a run folder or the name "demo".

    Of a run folder it is the newest snapshot.

    A name wins over a folder that is called so; ``"./demo"`` is the folder. The file says what it
    is; ``kind`` insists on one of ``KINDS``. Where a generator is wanted a reconstructor gives its
    own, which is the one that its latents belong to. Raises ``UserError`` for a missing, truncated
    or foreign file, for one of another kind, and for a config that this version does not know.
    """
    path, metadata, tensors = _read(path)
    expect_kind(path, metadata, kind)
    model, state = _build(path, metadata, tensors), tensors
    if isinstance(model, (Generator, Reconstructor)):
        state = {
            name: value.float() if value.is_floating_point() else value
            for name, value in tensors.items()
            if not name.startswith("template.")
        }
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"{path} does not fit its own config ({str(error).splitlines()[-1].strip()})."
        ) from error
    model = model.eval().requires_grad_(False).to(device)
    if isinstance(model, Reconstructor):  # the mapping's average moves in GAN training only
        model.generator.samples_seeds = bool(model.generator.mapping.w_avg.any())
    return model.generator if kind == "generator" and isinstance(model, Reconstructor) else model


def load_with_encoder(
    path: str | os.PathLike, device: torch.device | str = "cpu"
) -> tuple[Generator, Reconstructor | None]:
    """The generator of a snapshot and the reconstructor around it, if the snapshot is one.

    Errors as ``load``.
    """
    _, metadata, _ = _read(path, tensors=False)
    if metadata.get("kind") == "reconstructor":
        model = load(path, device, kind="reconstructor")
        return model.generator, model
    return load(path, device, kind="generator"), None


def _read(
    path: str | os.PathLike, tensors: bool = True
) -> tuple[Path, dict[str, str], dict[str, Tensor]]:
    """The file that ``path`` stands for, its header and, if wanted, its tensors."""
    from safetensors import SafetensorError, safe_open

    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"A network is named by its file, its run folder or its name ('demo'), not by {path!r}."
        )
    path = snapshot_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys() if tensors else ()
            found = {name: file.get_tensor(name) for name in names}
        whole = not tensors or safetensors_are_whole(path, metadata)
    except (SafetensorError, OSError) as error:
        raise UserError(no_network(path, str(error))) from error
    if not whole:
        raise UserError(
            f"{path} is damaged: it does not match the hash in its header; copy it again, or take"
            " an older snapshot."
        )
    return path, metadata, found


def _info(path: Path, metadata: dict[str, str]) -> SnapshotInfo:
    if metadata["kind"] == "reconstructor":
        config = _config(ReconstructorConfig, path, metadata).generator
    else:
        config = _config(GeneratorConfig, path, metadata)
    return SnapshotInfo(config, float(metadata["kimg"]), json.loads(metadata["provenance"]))


def _config(
    kind: type[config_json.Config], path: Path, metadata: dict[str, str]
) -> config_json.Config:
    return config_json.from_dict(kind, json.loads(metadata["config"]), f"config of {path}")


def _build(path: Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> Model:
    """The model that the header describes, its numbers not yet those of the file."""
    kind = metadata["kind"]
    if kind == "avatar":
        return _avatar(path, metadata, tensors)
    if kind == "expression":
        return ExpressionModel(_config(ExpressionConfig, path, metadata))
    if kind == "prior":
        return Prior(_config(PriorConfig, path, metadata))
    if kind == "reconstructor":
        config = _config(ReconstructorConfig, path, metadata)
        name = config.generator.template
        return Reconstructor(config, _template(name, tensors, metadata["template_sha256"]))
    config = _config(GeneratorConfig, path, metadata)
    return Generator(config, _template(config.template, tensors, metadata["template_sha256"]))


def _avatar(path: Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> AvatarModel:
    config = _config(AvatarConfig, path, metadata)
    factors = config.factors
    found = tensors.get("means" if factors is None else "places.codes")
    if found is None:
        raise UserError(f"{path} holds no Gaussians; copy or train it again.")
    if factors is None:
        return Avatar(config, count=len(found))
    if sum(factors.counts) != len(found):
        raise UserError(
            f"{path} does not fit its own config ({len(found)} Gaussians, but groups of "
            f"{list(factors.counts)})."
        )
    return CompressedAvatar(config)


def _template(name: str, tensors: dict[str, Tensor], sha256: str) -> Template:
    """The built-in template if it is what the model was trained on, else the file's geometry."""
    if name in BUILT_IN:
        built_in = load_template(name)
        if built_in.sha256 == sha256:
            return built_in
        warnings.warn(
            f"The built-in template '{name}' has changed since this network was trained; using the"
            " geometry in the file, which has no blendshapes.",
            stacklevel=3,
        )
    vertices, faces, uvs, uv_faces = (tensors[f"template.{key}"].numpy() for key in _GEOMETRY)
    return Template(name, vertices, faces, uvs, uv_faces)
