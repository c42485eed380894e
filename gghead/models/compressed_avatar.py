"""An avatar in a small form that is also the form it runs in.

Shared movements in place of a basis per Gaussian.

HeadGaS keeps B x F numbers per Gaussian and leaves their compression to others (Dhamo et al., ECCV
2024, limitations). What the network's hidden layer adds up is affine in the coefficients, for each
Gaussian n

    inner_n(e) = fixed_n + sum_k weight_nk movement_k(e)
    movement_k(e) = sum_r ((e - center) mixing)_r tables_rk

so ``fixed`` is I numbers and ``weight`` a few; mean's encoding, features and the layer's weights
are gone into them. Gaussians stand in groups by how many of the movements they use. Every part is
kept in 8 or 16 bits and is expanded for the Gaussians at hand only. ``gghead.models.compression``
finds the parts.
"""

from typing import cast

import torch
from torch import Tensor, nn

from gghead.models.avatar import AvatarModel, appearance_size, output_size
from gghead.models.avatar_config import AvatarConfig, FactorConfig
from gghead.models.motion import MOTION
from gghead.models.quantized_tensor import QuantizedTensor
from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError

# bits of the geometry: a pixel is a thousandth of a head, 8 bits are too few
_FINE = {8: 16, 16: 16, 32: 32}


class CompressedAvatar(AvatarModel):
    """``avatar(expression) -> Gaussians`` as ``Avatar``.

    Everything is zero, to be filled from a file or by factors.
    """

    center: Tensor  # [B]
    mixing: Tensor  # [B, combinations]

    def __init__(self, config: AvatarConfig) -> None:
        """Raises ``UserError`` for a config whose factors contradict themselves."""
        super().__init__(config)
        self.factors = factors = _check(config.factors)
        bits, count = factors.bits, sum(factors.counts)
        inner = config.hidden if config.mlp else output_size(config)
        self.places = QuantizedTensor((count, 3), _FINE[bits], 0)
        # logarithms of the standard deviations
        self.sizes = QuantizedTensor((count, 3), _FINE[bits], 0)
        self.turns = QuantizedTensor((count, 4), _FINE[bits], 0)
        if config.changes == "geometry":
            self.look = QuantizedTensor((count, appearance_size(config)), _FINE[bits], 0)
        self.fixed = QuantizedTensor((count, inner), bits, 0)
        self.weights = nn.ModuleList(
            QuantizedTensor((size, rank), bits, 0)
            for size, rank in zip(factors.counts, factors.ranks, strict=True)
        )
        self.tables = QuantizedTensor(
            (factors.combinations, max(factors.ranks, default=0), inner), bits, -1
        )
        if config.motion != "features":  # the same movements carry the Gaussians, too
            self.rest = QuantizedTensor((count, MOTION), _FINE[bits], 0)
            self.carried = QuantizedTensor((*self.tables.codes.shape[:2], MOTION), bits, -1)
        self.register_buffer("center", torch.zeros(config.width))
        self.register_buffer("mixing", torch.zeros(config.width, factors.combinations))
        if config.mlp:
            self.output = nn.Linear(config.hidden, output_size(config))

    @property
    def group_weights(self) -> list[QuantizedTensor]:
        """The weights [N_g, K_g] of each group of Gaussians, in order."""
        return cast(list[QuantizedTensor], list(self.weights))

    @property
    def num(self) -> int:
        return sum(self.factors.counts)

    @property
    def means(self) -> Tensor:  # [N, 3]
        return self.places()

    @property
    def log_scales(self) -> Tensor:  # [N, 3]
        return self.sizes()

    @property
    def quats(self) -> Tensor:  # [N, 4]
        return self.turns()

    @property
    def static(self) -> Tensor:  # [N, O], where only the geometry changes
        return self.look()

    def movements(self, expression: Tensor) -> Tensor:  # [T, B] -> [T, K, I]
        """The shared movements at an expression; no coefficient off its mean, no movement."""
        return self._mix(expression, self.tables())

    # [T, B], [R, K, I] -> [T, K, I]
    def _mix(self, expression: Tensor, tables: Tensor) -> Tensor:
        return torch.einsum("tr,rki->tki", (expression - self.center) @ self.mixing, tables)

    def _weigh(self, movements: Tensor) -> Tensor:  # [T, K, I] -> [T, N, I]
        return torch.cat(
            [weight() @ movements[:, : weight.codes.shape[1]] for weight in self.group_weights], 1
        )

    def inner(self, expression: Tensor) -> Tensor:
        return self.fixed() + self._weigh(self.movements(expression))

    def motion_basis(self) -> None:
        """Nothing, as for ``prepare``."""

    def motions(self, expression: Tensor, basis: None = None) -> Tensor:
        return self.rest() + self._weigh(self._mix(expression, self.carried()))

    def blocks(self, size: int) -> list[tuple[int, int]]:
        runs, begin = [], 0
        for count in self.factors.counts:
            runs += [
                (first, min(first + size, begin + count))
                for first in range(begin, begin + count, size)
            ]
            begin += count
        return runs

    def prepare(self) -> None:
        """Nothing: what could be kept expanded would take the memory that compression saves."""

    def mixture(self, expression: Tensor) -> Tensor:  # [1, B] -> [K, I]
        return self.movements(expression)[0]

    def rows(self, first: int, last: int, mixture: Tensor, prepared: None) -> Tensor:
        """``inner`` of Gaussians of one group.

        The scales go into the movements, so that codes are only converted.
        """
        begin = 0
        for weight in self.group_weights:
            count, rank = weight.codes.shape
            if begin <= first < begin + count:
                break
            begin += count
        fixed, movements = self.fixed.codes[first:last].float(), mixture[:rank]
        if self.fixed.bits != 32:
            fixed = torch.addcmul(
                self.fixed.offset + weight.offset @ movements, fixed, self.fixed.scale
            )
            movements = weight.scale.T * movements
        return torch.addmm(fixed, weight.codes[first - begin : last - begin].float(), movements)

    @torch.no_grad()
    def quantize(self, bits: int) -> "CompressedAvatar":
        """The same avatar with ``bits`` per number; ``ValueError`` unless this one has 32."""
        if self.factors.bits != 32:
            raise ValueError(
                f"This avatar has {self.factors.bits} bits per number already; quantize the"
                " one it was made from."
            )
        made = CompressedAvatar(config_json.replace(self.config, {"factors": {"bits": bits}})).to(
            self.device
        )
        own = dict(self.named_modules())
        for name, part in made.named_modules():
            full = own[name]
            if isinstance(part, QuantizedTensor) and isinstance(full, QuantizedTensor):
                part.load_state_dict(
                    QuantizedTensor.of(full.codes, part.bits, part.dim).state_dict()
                )
        for name in ("center", "mixing", "coefficient_min", "coefficient_max"):
            getattr(made, name).copy_(getattr(self, name))
        if self.config.mlp:
            made.output.load_state_dict(self.output.state_dict())
        return made.train(self.training)


def _check(factors: FactorConfig | None) -> FactorConfig:
    if factors is None:
        raise UserError(
            "This avatar's config says nothing about factors; it is not a compressed one."
        )
    ranks, counts = list(factors.ranks), list(factors.counts)
    ordered = (
        ranks == sorted(ranks, reverse=True)
        and min([0, *ranks, *counts, factors.combinations]) == 0
    )
    if not ranks or len(ranks) != len(counts) or not ordered:
        raise UserError(
            f"The factors of this avatar contradict themselves: groups of {counts} Gaussians with"
            f" {ranks} movements; copy the file again."
        )
    return factors
