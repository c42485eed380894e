"""What an avatar of one person is made of.

It is a frozen dataclass that survives JSON (``torch_utils.config``).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from gghead.torch_utils.config import Option, Range

# Shared movements of a compressed avatar; motions are movements, too.
_RANKS = {"features": 128, "blendshapes": 256}


@dataclass(frozen=True)
class CompressionPlan:
    """How much of an avatar is kept when it is compressed (``compression.factorize``)."""

    rank: Annotated[
        int | None,
        Range(1),
        Option(default=f"{_RANKS['features']}; {_RANKS['blendshapes']} where Gaussians move"),
    ] = None
    """Shared movements; a Gaussian uses all, a half, a quarter, an eighth of them or none.

    A quarter of it does for whole images; mouth and eyes take more."""
    combinations: Annotated[int, Range(1), Option()] = 64
    """Largest number of combinations of the coefficients that the movements depend on."""
    prune: Annotated[float, Range(0), Option()] = 0.1
    """A Gaussian may leave out movements that change its activations by less than this share of
    what the average Gaussian's change by, root mean square over the frames."""

    def movements(self, motion: str) -> int:
        """``rank``, or what stands for it with an avatar's ``motion``."""
        return _RANKS[motion] if self.rank is None else self.rank


@dataclass(frozen=True)
class FactorConfig:
    """How a compressed avatar keeps what its Gaussians do: as mixtures of shared movements."""

    bits: Literal[8, 16, 32]
    """Bits per number; 32 = not quantized, which alone can be trained. Geometry has 16 where this
    is 8."""
    combinations: int
    """Combinations of the expression coefficients that the shared movements depend on."""
    ranks: tuple[int, ...]
    """Shared movements that the Gaussians of each group use, most first; 0 = they never change."""
    counts: tuple[int, ...]
    """Gaussians in each group."""


@dataclass(frozen=True)
class AvatarConfig:
    """Gaussians with a feature basis that expression coefficients blend (HeadGaS, section 3).

    ``blend``, ``mlp`` and ``changes`` are the paper's ablations; their defaults are the paper's
    model.
    """

    width: int
    """Number of expression coefficients B, which the data decide: 52, 46, 100 …"""
    coefficient_names: tuple[str, ...] = ()
    """Names of the coefficients, where the data have any."""
    first: int = 0
    """So many of a sequence's coefficients are taken, the first ones (the paper: 52 of FLAME's); 0
    = all."""
    extras: tuple[str, ...] = ()
    """Tracked parameters of a sequence that are appended to them: jaw, eyes, eyelids."""
    expression_model: str = ""
    """Where the coefficients come from: the format of the training sequence."""
    feature_dim: Annotated[int, Range(1), Option()] = 32
    """Numbers per Gaussian and coefficient in the basis."""
    hidden: int = 64
    """Width of the two-layer network."""
    frequencies: int = 4
    """Octaves of the positional encoding of the mean (not stated in the paper)."""
    sh_degree: Annotated[int, Range(0, 3), Option()] = 3
    """Degree of the spherical harmonics of the colors."""
    image_size: tuple[int, ...] = (256, 256)
    """Width and height of the training images; what is rendered by default."""
    camera: tuple[float, ...] = ()
    """Label (25 numbers) of the training camera nearest the middle of all of them."""
    blend: bool = True
    """Off: the expression is only one more input of the network (the paper's "w/o blending")."""
    mlp: bool = True
    """Off: the basis blends colors and opacities themselves (the paper's "w/o MLP")."""
    changes: Literal["appearance", "geometry", "everything"] = "appearance"
    """What the expression changes: color and opacity; offsets of mean and rotation; or all of
    these."""
    motion: Literal["features", "blendshapes"] = "features"
    """What opens mouths and closes lids: appearance alone, as in the paper, or also Gaussians that
    move by a motion basis which starts as the template's blendshapes (``gghead.models.motion``)."""
    mirrored_grid: Annotated[int, Range(0), Option(metavar="N")] = 0
    """Side of a UV grid of bases that both sides of the face share, such as 32; 0 = none.

    See ``gghead.models.mirrored_grid``."""
    factors: FactorConfig | None = None
    """Set in a compressed avatar, in place of a basis per Gaussian
    (``gghead.models.compressed_avatar``)."""
