"""The container for 3D Gaussians.

What every model makes and everything else renders, moves, saves or edits.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gghead import ply, sh
from gghead.cameras import BatchIndex
from gghead.rotations import matrix_to_quat, quat_multiply
from gghead.torch_utils.checks import check_shape
from gghead.torch_utils.errors import UserError


@dataclass
class Gaussians:
    """``N`` Gaussians per batch element.

    Raises ``ValueError`` where the shapes do not fit together.
    """

    means: Tensor  # [..., N, 3] world units
    quats: Tensor  # [..., N, 4] w, x, y, z
    scales: Tensor  # [..., N, 3] standard deviations, world units
    opacities: Tensor  # [..., N] in [0, 1]
    # [..., N, 3] RGB in [0, 1], or [..., N, K, 3] spherical harmonics where sh_degree is set
    colors: Tensor
    sh_degree: int | None = None  # None: colors are RGB; otherwise K = (sh_degree + 1)^2
    # [..., N, 2] place on the template's UV square, in [-1, 1] as grid_sample takes it
    uv: Tensor | None = None
    features: Tensor | None = None  # [..., N, F] anything else with one value per Gaussian
    # pixels a side of the images that a network was trained with, None where that is not known:
    # ``render`` grows its low-pass filter above it
    training_size: int | None = None

    def __post_init__(self) -> None:
        if self.training_size is not None and self.training_size < 1:
            raise UserError(f"training_size must be 1 or more, but it is {self.training_size}.")
        check_shape("means", self.means, (None, 3))
        for name, tensor in self._tensors().items():
            tail = {
                "quats": (4,),
                "opacities": (),
                "colors": self._color_shape(),
                "uv": (2,),
                "features": (None,),
            }
            check_shape(name, tensor, (self.num, *tail.get(name, (3,))))
            if self._batch_of(name, tensor) != self.shape:
                raise ValueError(
                    f"{name} must have the batch shape {list(self.shape)} of means; it is"
                    f" {list(tensor.shape)}."
                )

    def _color_shape(self) -> tuple[int, ...]:
        return (3,) if self.sh_degree is None else ((self.sh_degree + 1) ** 2, 3)

    def _batch_of(self, name: str, tensor: Tensor) -> torch.Size:
        return tensor.shape[: tensor.ndim - self._own_dims(name)]

    def _own_dims(self, name: str) -> int:
        """Number of dimensions from N on."""
        return {"opacities": 1, "colors": 1 + len(self._color_shape())}.get(name, 2)

    def _tensors(self) -> dict[str, Tensor]:
        names = ("means", "quats", "scales", "opacities", "colors", "uv", "features")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def map(self, function: Callable[[Tensor], Tensor]) -> "Gaussians":
        """Apply ``function`` to every tensor."""
        return replace(self, **{name: function(tensor) for name, tensor in self._tensors().items()})

    def __repr__(self) -> str:
        colors = "RGB" if self.sh_degree is None else f"harmonics of degree {self.sh_degree}"
        more = ["uv"] * (self.uv is not None)
        more += [] if self.features is None else [f"{self.features.shape[-1]} features"]
        dtype = str(self.dtype).removeprefix("torch.")
        parts = [
            f"batch {list(self.shape)}",
            f"N {self.num}",
            colors,
            *more,
            dtype,
            str(self.device),
        ]
        return f"Gaussians({', '.join(parts)})"

    # ----------------------------------------------------------------- reading
    @property
    def shape(self) -> torch.Size:
        """The batch shape."""
        return self.means.shape[:-2]

    @property
    def num(self) -> int:
        """Number of Gaussians per batch element."""
        return self.means.shape[-2]

    @property
    def device(self) -> torch.device:
        return self.means.device

    @property
    def dtype(self) -> torch.dtype:
        return self.means.dtype

    def __getitem__(self, index: BatchIndex | tuple[BatchIndex, ...]) -> "Gaussians":
        """Index the batch dimensions (use ``select`` for the Gaussians)."""
        index = index if isinstance(index, tuple) else (index,)
        if any(isinstance(i, type(Ellipsis)) for i in index):
            raise IndexError("Gaussians are indexed by batch dimension only, without '...'")
        if len([i for i in index if i is not None]) > len(self.shape):
            raise IndexError(
                f"too many indices for Gaussians of batch shape {list(self.shape)}; use select"
                " for N"
            )
        return self.map(lambda tensor: tensor[index])

    def validate(self, name: str = "Gaussians") -> "Gaussians":
        """Return ``self``.

        Raise ``UserError`` for values not finite, scales <= 0 or opacities out of [0, 1].
        """
        for field, tensor in self._tensors().items():
            if not tensor.isfinite().all():
                raise UserError(f"{name}: {field} contains numbers that are not finite.")
        if (self.scales <= 0).any():
            raise UserError(
                f"{name}: scales must be positive, but the smallest is"
                f" {float(self.scales.min()):g}."
            )
        if ((self.opacities < 0) | (self.opacities > 1)).any():
            raise UserError(f"{name}: opacities must lie in [0, 1] (after the sigmoid).")
        if (self.quats.norm(dim=-1) == 0).any():
            raise UserError(f"{name}: a quaternion is zero.")
        return self

    # ---------------------------------------------------------------- changing
    def select(self, which: Tensor | slice | Sequence[int]) -> "Gaussians":
        """Select Gaussians by an index list, mask or slice [M or N] over N.

        It is the same for every batch element.
        """
        if not isinstance(which, (Tensor, slice)):
            which = torch.as_tensor(which, device=self.device) if len(which) else slice(0)
        batch = (slice(None),) * len(self.shape)
        return self.map(lambda tensor: tensor[(*batch, which)])

    @classmethod
    def merge(cls, parts: Sequence["Gaussians"]) -> "Gaussians":
        """Put Gaussians of one batch shape into one scene.

        RGB is lifted to harmonics where the parts differ in degree.

        ``uv`` and ``features`` are kept where all parts have them. Several heads that are to be
        drawn side by side, or each on its own, are a batch: see ``stack``.
        """
        if not parts:
            raise ValueError("There are no Gaussians to put together.")
        parts = _of_one_degree(parts)
        if len({part.shape for part in parts}) > 1:
            shapes = ", ".join(str(list(part.shape)) for part in parts)
            raise ValueError(
                f"Gaussians to be put together must have the same batch shape, but have {shapes}."
            )
        return cls(**_join(parts, len(parts[0].shape)), sh_degree=parts[0].sh_degree)

    @classmethod
    def stack(cls, heads: Sequence["Gaussians"]) -> "Gaussians":
        """Make one batch [B, N] of heads, which ``render`` draws in one call.

        Each has batch shape () or (B,). ``uv`` and ``features`` are kept where all heads have them.
        Raises ``ValueError`` for heads that differ in their number of Gaussians or have more than
        one batch dimension.
        """
        if not heads:
            raise ValueError("There are no heads to stack.")
        heads = _of_one_degree([head if head.shape else head[None] for head in heads])
        counts = sorted({head.num for head in heads})
        if len(counts) > 1:
            raise ValueError(
                "Heads of one batch must have the same number of Gaussians, but these have"
                f" {counts}; render them one by one, or put them into one scene with"
                " Gaussians.merge."
            )
        if any(len(head.shape) > 1 for head in heads):
            shapes = ", ".join(str(list(head.shape)) for head in heads)
            raise ValueError(
                f"Heads to be stacked have batch shape [] or [B], but these have {shapes}."
            )
        return cls(**_join(heads, 0), sh_degree=heads[0].sh_degree)

    def with_sh(self, degree: int) -> "Gaussians":
        """The same colors as spherical harmonics of ``degree``, no lower than the present one."""

        colors = sh.rgb_to_dc(self.colors)[..., None, :] if self.sh_degree is None else self.colors
        missing = sh.num_bases(degree) - colors.shape[-2]
        if missing < 0:
            raise ValueError(
                f"Harmonics of degree {self.sh_degree} do not fit into degree {degree}; choose a"
                " higher one."
            )
        return replace(
            self, colors=torch.nn.functional.pad(colors, (0, 0, 0, missing)), sh_degree=degree
        )

    def transform(self, matrix: Tensor) -> "Gaussians":
        """Move by ``matrix [..., 4, 4]``: a rotation, an equal scale in all directions and a shift.

        Quaternions and harmonics turn with it. Raises ``ValueError`` for other matrices (shear,
        mirror).
        """
        check_shape("matrix", matrix, (4, 4))
        matrix = matrix.to(self.means)
        linear = matrix[..., :3, :3]
        det = torch.linalg.det(linear)
        if (det <= 0).any():
            raise ValueError(
                "This matrix mirrors or flattens; move Gaussians by rotation, positive scale and"
                " shift only."
            )
        factor = det.pow(1 / 3)
        rotation = linear / factor[..., None, None]
        eye = torch.eye(3, dtype=self.dtype, device=self.device)
        if (rotation @ rotation.mT - eye).abs().max() > 1e-3:
            raise ValueError(
                "This matrix shears or stretches; move Gaussians by rotation, equal scale and shift"
                " only."
            )
        turned = quat_multiply(matrix_to_quat(rotation)[..., None, :], self.quats)
        return replace(
            self,
            means=self.means @ linear.mT + matrix[..., None, :3, 3],
            quats=turned,
            scales=self.scales * factor[..., None, None],
            colors=_rotate_harmonics(self.colors, self.sh_degree, rotation),
        )

    def to(self, *args: Any, **options: Any) -> "Gaussians":
        """As ``torch.Tensor.to``."""
        return self.map(lambda tensor: tensor.to(*args, **options))

    def detach(self) -> "Gaussians":
        return self.map(Tensor.detach)

    # ------------------------------------------------------------------- files
    def save_ply(self, path: str | Path) -> None:
        """Write one head as a .ply in the layout of 3DGS (``gghead.ply``), whole or not at all.

        The file has -y up and SH coefficients. Raises ``ValueError`` for a batch of several heads,
        ``UserError`` for impossible values and where the file cannot be written.
        """
        path = Path(path)
        if math.prod(self.shape) != 1:
            raise ValueError(
                "A .ply file holds one head, but these Gaussians have batch shape"
                f" {list(self.shape)}."
            )
        one = self[(0,) * len(self.shape)] if self.shape else self
        one = one.detach().to("cpu", torch.float64).validate(f"The Gaussians for {path.name}")
        one = one.transform(ply.upright(ply.WRITTEN_UP).mT)
        coefficients = one.with_sh(one.sh_degree or 0).colors  # [N, K, 3]
        ply.write(path, one.means, one.quats, one.scales, one.opacities, coefficients)

    @classmethod
    def load_ply(cls, path: str | Path, up: str | None = None) -> "Gaussians":
        """Read a .ply in the layout of 3DGS as Gaussians [N, ...] in float32, turned upright.

        Plain RGB where the file has no ``f_rest`` properties. ``up`` and errors as
        ``gghead.ply.read``.
        """
        values, sh_degree, up = ply.read(path, up)
        gaussians = cls(**values, sh_degree=sh_degree, training_size=None)
        return gaussians.transform(ply.upright(up)).to(torch.float32).validate(str(path))


def _of_one_degree(parts: Sequence[Gaussians]) -> Sequence[Gaussians]:
    degrees = [part.sh_degree for part in parts]
    return (
        parts
        if len(set(degrees)) == 1
        else [part.with_sh(max(degree or 0 for degree in degrees)) for part in parts]
    )


def _join(parts: Sequence[Gaussians], dim: int) -> dict[str, Any]:
    """What all parts have, put together along a dimension; of training sizes the largest."""
    shared = [
        name
        for name in parts[0]._tensors()
        if all(getattr(part, name) is not None for part in parts)
    ]
    joined: dict[str, Any] = {
        name: torch.cat([getattr(part, name) for part in parts], dim) for name in shared
    }
    sizes = [part.training_size for part in parts if part.training_size is not None]
    joined["training_size"] = max(sizes, default=None)
    return joined


def _rotate_harmonics(colors: Tensor, degree: int | None, rotation: Tensor) -> Tensor:
    """Turn harmonics with the Gaussians.

    Returns the coefficients [..., N, K, 3] of f(R^-1 d) for those of f(d).
    """

    return (
        colors if not degree else sh.rotation(degree, rotation)[..., None, :, :].to(colors) @ colors
    )
