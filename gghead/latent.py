"""The latent of a head as a file: w+, a residual on Z, a change of the decoder.

What inversion and encoders write.

One safetensors file per head and stage. Everything that draws seeds accepts it, and from Python::

    latent = gghead.latent.load("latent-pti.safetensors", model)  # styles, residual, metadata
    head = latent.gaussians(model)  # Gaussians [1, N], as model.sample(seed)
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gghead.gaussians import Gaussians
from gghead.latent_stages import STAGES
from gghead.models.generator import Generator
from gghead.torch_utils import config as config_json
from gghead.torch_utils.checks import shape_fault
from gghead.torch_utils.errors import MissingFile, UserError
from gghead.torch_utils.files import file_part, make_folder, write_atomically

FORMAT = "gghead-latent/1"
_DELTA = "delta."


@dataclass(frozen=True, eq=False)
class Latent:
    """Latents of B heads."""

    ws: Tensor
    """[B, num_ws, w_dim] styles."""
    residual: Tensor | None = None
    """[B, C, R, R], added to the Z that the styles give; None: nothing."""
    delta: dict[str, Tensor] = field(default_factory=dict)
    """Decoder parameter -> [B, ...], added to it for this head only (pivotal tuning); empty:
    nothing."""
    camera: Tensor | None = None
    """[B, 25] labels of the images' cameras."""
    info: dict = field(default_factory=dict)
    """Where it comes from: target, stage, network, steps, metrics."""

    def __len__(self) -> int:
        return len(self.ws)

    def __getitem__(self, index: slice) -> "Latent":
        return self.map(lambda tensor: tensor[index])

    @property
    def name(self) -> str:
        """``<target>-<stage>``, for files made of it."""
        return file_part(f"{self.info.get('target', 'latent')}-{self.info.get('stage', 'latent')}")

    def map(self, function: Callable[[Tensor], Tensor]) -> "Latent":
        """Apply ``function`` to every tensor."""
        return replace(
            self,
            ws=function(self.ws),
            delta={name: function(value) for name, value in self.delta.items()},
            residual=None if self.residual is None else function(self.residual),
            camera=None if self.camera is None else function(self.camera),
        )

    def to_file_precision(self) -> "Latent":
        """As it will be read from a file: residual and delta in half precision."""

        def half(tensor: Tensor) -> Tensor:
            return tensor.half().float()

        residual = None if self.residual is None else half(self.residual)
        return replace(
            self, residual=residual, delta={name: half(value) for name, value in self.delta.items()}
        )

    def truncate(self, model: Generator, psi: float, cutoff: int | None = None) -> "Latent":
        """Move towards the average head: psi 1 changes nothing, 0 is the average head.

        With ``cutoff`` only that many leading styles move; otherwise residual and delta shrink with
        the styles.
        """
        if psi == 1.0:
            return self
        cut = self.ws.shape[1] if cutoff is None else cutoff
        ws = torch.cat([model.mapping.w_avg.lerp(self.ws[:, :cut], psi), self.ws[:, cut:]], dim=1)
        if cutoff is not None:
            return replace(self, ws=ws)
        residual = None if self.residual is None else psi * self.residual
        return replace(
            self,
            ws=ws,
            residual=residual,
            delta={name: psi * value for name, value in self.delta.items()},
        )

    def features(
        self, model: Generator, noise_mode: str = "const", generator: torch.Generator | None = None
    ) -> Tensor:  # [B, C, R, R]
        """Return Z, residual included."""
        z = model.latent(self.ws, noise_mode, generator)
        return z if self.residual is None else z + self.residual.to(z.dtype)

    def raw_attributes(
        self, model: Generator, noise_mode: str = "const", generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the raw attributes [B, N, C_k] per Gaussian, the input of ``model.assemble``."""
        z = self.features(model, noise_mode, generator)
        if not self.delta:
            return model.decode(z, self.ws, noise_mode, generator)
        ws = self.ws[:, model.synthesis.num_ws :]
        own = dict(model.decoder.named_parameters())
        planes = [
            torch.func.functional_call(
                model.decoder,
                {name: own[name] + value[b] for name, value in self.delta.items()},
                (z[b : b + 1], ws[b : b + 1], noise_mode, generator),
            )
            for b in range(len(self))
        ]
        return model.attributes.sample(torch.cat(planes))

    def gaussians(
        self, model: Generator, noise_mode: str = "const", generator: torch.Generator | None = None
    ) -> Gaussians:
        """Return the heads [B, N].

        ``model`` itself is never changed: deltas live in this call only.
        """
        return model.assemble(self.raw_attributes(model, noise_mode, generator), self.ws)


def stack(latents: Sequence[Latent]) -> Latent:
    """Put heads into one batch; what only some of them have is zero for the others.

    Cameras and info are left out.
    """

    def cat(values: list[Tensor | None]) -> Tensor:
        like = next(value for value in values if value is not None)
        return torch.cat(
            [
                like.new_zeros(len(latent), *like.shape[1:]) if value is None else value
                for latent, value in zip(latents, values, strict=True)
            ]
        )

    names = {name: None for latent in latents for name in latent.delta}
    has_residual = any(latent.residual is not None for latent in latents)
    return Latent(
        ws=torch.cat([latent.ws for latent in latents]),
        residual=cat([latent.residual for latent in latents]) if has_residual else None,
        delta={name: cat([latent.delta.get(name) for latent in latents]) for name in names},
    )


def fingerprints(model: Generator) -> dict[str, str]:
    """Return what tells networks apart: a hash of the architecture and one of all numbers."""
    architecture = hashlib.sha256(
        json.dumps(config_json.to_dict(model.config), sort_keys=True).encode()
    )
    architecture.update(model.template.sha256.encode())
    return {
        "architecture": architecture.hexdigest()[:16],
        "network": fingerprint(model, architecture),
    }


def fingerprint(module: nn.Module, start: "hashlib._Hash | None" = None) -> str:
    """Return a hash of all numbers in ``module``, continued from the hash ``start``."""
    digest = hashlib.sha256() if start is None else start.copy()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save(
    path: str | os.PathLike, latent: Latent, model: Generator, own: dict[str, str] | None = None
) -> None:
    """Write one head's latent (batch size 1), whole or not at all.

    Raises ``ValueError`` for a larger batch, ``UserError`` if the disk refuses.

    ``own`` are the model's ``fingerprints``, for whoever writes many files: hashing a network takes
    its time.
    """
    from safetensors.torch import save as to_bytes

    if len(latent) != 1:
        raise ValueError(
            f"A latent file holds one head, but this batch has {len(latent)}; save them one by one."
        )
    tensors = {"ws": latent.ws[0]}
    if latent.residual is not None:
        tensors["residual"] = latent.residual[0].half()
    if latent.camera is not None:
        tensors["camera"] = latent.camera[0]
    tensors |= {_DELTA + name: value[0].half() for name, value in latent.delta.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # One entry: safetensors writes several in an order that changes from run to run, and files
    # shall be the same.
    metadata = {
        "latent": json.dumps(
            {"format": FORMAT, "info": latent.info, **(own or fingerprints(model))}
        )
    }
    make_folder(Path(path).parent)
    write_atomically(path, lambda file: file.write(to_bytes(tensors, metadata)))


def load(
    path: str | os.PathLike, model: Generator | None = None, own: dict[str, str] | None = None
) -> Latent:
    """Read a latent file as a batch of one.

    With ``model`` it is checked against it and moved to its device.

    ``own`` as in ``save``.

    Raises ``UserError`` for a missing, broken or foreign file, and for one that belongs to another
    network.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise MissingFile(f"The latent file {path} does not exist; gghead.latent.save writes them.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            metadata = json.loads(metadata["latent"]) if "latent" in metadata else metadata
            metadata = metadata if isinstance(metadata, dict) else {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no dict
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is truncated or no safetensors file ({error}); make it again."
        ) from error
    if metadata.get("format") != FORMAT or "ws" not in tensors:
        raise UserError(
            f"{path} has format {metadata.get('format')!r}, but latent files have '{FORMAT}'."
        )
    if any(not bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise UserError(f"{path} contains numbers that are not finite; make it again.")
    tensors = {name: value.float()[None] for name, value in tensors.items()}
    for name, shape in (
        ("ws", (1, None, None)),
        ("residual", (1, None, None, None)),
        ("camera", (1, 25)),
    ):
        if name in tensors:
            _check_stored(path, name, tensors[name], shape)
    delta = {
        name.removeprefix(_DELTA): value
        for name, value in tensors.items()
        if name.startswith(_DELTA)
    }
    latent = Latent(
        tensors["ws"],
        tensors.get("residual"),
        delta,
        tensors.get("camera"),
        metadata.get("info") or {},
    )
    if model is None:
        return latent
    _check_owner(path, latent, metadata, model, own or fingerprints(model))
    return latent.map(lambda tensor: tensor.to(model.device))


def find(paths: str, last_stage: str = "pti") -> list[Path]:
    """Return the latent files that a comma list of files and folders names.

    A folder stands for the last stage of every target in it, though none after ``last_stage``.
    Raises ``UserError`` where there is none.
    """
    found: list[Path] = []
    for part in paths.split(","):
        if not part.strip():  # which would stand for the folder that one happens to be in
            raise UserError(
                f"'{paths}' names a latent without a name between its commas; leave the comma out."
            )
        path = Path(part.strip())
        if not path.is_dir():
            if not path.is_file():
                raise MissingFile(
                    f"`latents='{part.strip()}'` does not exist; name a file or folder that an"
                    " inversion wrote."
                )
            found.append(path)
            continue
        last: dict[Path, tuple[int, Path]] = {}
        for file in sorted(path.rglob("latent*.safetensors")):
            stage = file.stem.removeprefix("latent-")
            if stage in STAGES[STAGES.index(last_stage) + 1 :]:
                continue
            rank = STAGES.index(stage) if stage in STAGES else len(STAGES)
            last[file.parent] = max(last.get(file.parent, (-1, file)), (rank, file))
        if not last:
            raise UserError(
                f"{path} holds no latent-*.safetensors and no latent.safetensors; name a folder"
                " that an inversion or a reconstruction wrote."
            )
        found += [file for _, file in last.values()]
    return found


def _check_owner(
    path: Path, latent: Latent, metadata: dict, model: Generator, own: dict[str, str]
) -> None:
    if metadata.get("architecture") != own["architecture"]:
        raise UserError(
            f"{path} was made with a network of another architecture; take that network, or invert"
            " the image again with this one."
        )
    if metadata.get("network") != own["network"]:
        raise UserError(
            f"{path} was made with another network (same architecture, other weights); take that"
            " network, or invert the image again with this one."
        )
    _check_stored(path, "ws", latent.ws, (1, model.num_ws, model.config.w_dim))
    if latent.residual is not None:
        side = model.config.latent_resolution
        _check_stored(
            path, "residual", latent.residual, (1, model.synthesis.out_channels, side, side)
        )
    parameters = dict(model.decoder.named_parameters())
    for name, value in latent.delta.items():
        if name not in parameters:
            raise UserError(
                f"{path} changes the decoder's '{name}', which this network does not have."
            )
        _check_stored(path, name, value, (1, *parameters[name].shape))


def _check_stored(path: Path, name: str, value: Tensor, shape: tuple[int | None, ...]) -> None:
    fault = shape_fault(f"{name} in {path}", value, shape)
    if fault is not None:
        raise UserError(fault)
