"""The avatar of one person.

Static Gaussians whose colors and opacities follow expression coefficients.

After Dhamo et al., "HeadGaS: Real-Time Animatable Head Avatars via 3D Gaussian Splatting" (ECCV
2024), section 3. What the paper leaves open is decided here: the bias feature is one per Gaussian
and starts at zero, four octaves encode the mean, the mean gets no gradient through that encoding
(images move Gaussians, not the network's taste in places), the network starts at opacity 0.1,
with the harmonics above degree 0 zero and scaled by 0.1.
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead import sh
from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.models.avatar_config import AvatarConfig
from gghead.models.mirrored_grid import MirroredGrid
from gghead.models.motion import MOTION, displace
from gghead.rotations import quat_multiply
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import generator

INITIAL_OPACITY = 0.1
REST_GAIN = 0.1  # of harmonics above degree 0
_GEOMETRY = 7  # offset of the mean, quaternion
_FURTHER = 2.0  # how far motions go on beyond the largest coefficient of the training
_GEOMETRY_GAIN = 0.01  # a unit of the network's output in world units, so that offsets start small

PER_GAUSSIAN = {
    "means": 0,
    "log_scales": 0,
    "quats": 0,
    "basis": 1,
    "bias": 0,
    "static": 0,
    "motion": 1,
    "reach": 1,
    "anchors": 0,
}
"""Parameters with one entry per Gaussian, and along which dimension."""


# [B, N, F], [N, F], [T, B] -> [T, N, F]
def blend(basis: Tensor, bias: Tensor, expression: Tensor) -> Tensor:
    """f = F^T e + f0 (HeadGaS, equation 3) for all Gaussians as one matrix product."""
    count, features = bias.shape
    return (expression @ basis.reshape(len(basis), count * features)).unflatten(
        -1, (count, features)
    ) + bias


# [N, 3] -> [N, 3 + 6 * frequencies]
def positional_encoding(x: Tensor, frequencies: int) -> Tensor:
    """The coordinates themselves, then sine and cosine of 2^k pi x.

    Mildenhall et al. 2020, "NeRF", equation 4.
    """
    angles = (
        x[:, None]
        * (math.pi * 2.0 ** torch.arange(frequencies, dtype=x.dtype, device=x.device))[:, None]
    )
    return torch.cat([x, torch.cat([angles.sin(), angles.cos()], 1).flatten(1)], 1)


class AvatarModel(nn.Module, ABC):
    """What all avatars share: from expression coefficients to Gaussians.

    Subclasses store the Gaussians.

    ``means``, ``log_scales``, ``quats`` (and ``static`` where only the geometry changes) are floats
    per Gaussian; ``inner`` is an affine function of the coefficients, and ``outer`` what comes
    after it.
    """

    kind = "avatar"

    coefficient_min: Tensor  # [B]
    coefficient_max: Tensor
    means: Tensor  # [N, 3] world units
    log_scales: Tensor  # [N, 3]
    quats: Tensor  # [N, 4]
    static: Tensor  # [N, appearance], where only the geometry changes
    output: nn.Linear  # where the config has a network

    def __init__(self, config: AvatarConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("coefficient_min", torch.full((config.width,), -math.inf))
        self.register_buffer("coefficient_max", torch.full((config.width,), math.inf))

    @property
    def num(self) -> int:
        """Number of Gaussians."""
        return len(self.means)

    @property
    def device(self) -> torch.device:
        return self.coefficient_min.device

    @property
    def nbytes(self) -> int:
        """Bytes of all numbers that are kept while it runs."""
        return sum(value.numel() * value.element_size() for value in self.state_dict().values())

    def clamp(self, expression: Tensor) -> Tensor:  # [..., B] -> [..., B]
        """Bring coefficients into the range of training.

        Beyond it the network invents.
        """
        return expression.clamp(self.coefficient_min, self.coefficient_max)

    # [..., B] -> [..., B]
    def clamp_motion(self, expression: Tensor, clamp: bool = True) -> Tensor:
        """The same for motions, which may be as far again as training had them.

        They stay within the [0, 1] of blendshapes. Where a jaw or an eye goes on to is known better
        than what it then looks like.
        """
        if not clamp:
            return expression
        low, high = self.coefficient_min, self.coefficient_max
        return expression.clamp(
            low.clamp(max=0), torch.maximum(high, (_FURTHER * high).clamp(max=1))
        )

    def check(self, expression: Tensor, clamp: bool = True) -> Tensor:  # [T, B] -> [T, B]
        """Coefficients ready for use.

        Raises ``ValueError`` for another number of them, ``UserError`` for values that are not
        finite.
        """
        width = self.config.width
        if expression.shape[-1:] != (width,):
            raise ValueError(
                f"This avatar takes {width} expression coefficients, but was given "
                f"{list(expression.shape)}; drive it with the expression model it was trained with."
            )
        if expression.ndim != 2:
            raise ValueError(
                f"expression must be [frames, {width}], but it is {list(expression.shape)}."
            )
        if not bool(expression.isfinite().all()):
            raise UserError("The expression holds NaN or infinite coefficients; mend them.")
        return self.clamp(expression) if clamp else expression

    def forward(
        self, expression: Tensor, *, clamp: bool = True, sh_degree: int | None = None
    ) -> Gaussians:
        """Gaussians of batch shape [T] for ``expression`` [T, B].

        ``sh_degree`` leaves out higher bands. Raises ``ValueError`` for another number of
        coefficients, ``UserError`` for values that are not finite.
        """
        config, seen = self.config, self.check(expression, clamp)
        raw = self.outer(self.inner(seen))
        frames, appearance = len(expression), appearance_size(config)
        fixed = config.changes == "geometry"
        look = self.static.expand(frames, -1, -1) if fixed else raw[..., :appearance]
        means, quats = self.place(self.clamp_motion(expression, clamp))
        if config.changes != "appearance":
            moved = raw[..., -_GEOMETRY:]
            means = means + _GEOMETRY_GAIN * moved[..., :3]
            turn = torch.cat([1 + moved[..., 3:4], moved[..., 4:]], -1)
            quats = quat_multiply(F.normalize(turn, dim=-1), quats)
        degree = config.sh_degree if sh_degree is None else min(sh_degree, config.sh_degree)
        colors = look[..., : 3 * sh.num_bases(degree)].unflatten(-1, (-1, 3))
        if degree > 0:
            colors = torch.cat([colors[..., :1, :], REST_GAIN * colors[..., 1:, :]], -2)
        return Gaussians(
            means=means,
            quats=quats,
            scales=self.log_scales.exp().expand(frames, -1, -1),
            opacities=look[..., -1].sigmoid(),
            colors=colors,
            sh_degree=degree,
        )

    def place(self, expression: Tensor, basis: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means [T, N, 3] and rotations [T, N, 4] moved by ``expression`` [T, B].

        They are those at rest in an avatar without motions. ``basis`` is what ``motion_basis``
        returned before.
        """
        if self.config.motion == "features":
            return self.means.expand(len(expression), -1, -1), self.quats.expand(
                len(expression), -1, -1
            )
        return displace(self.means, self.quats, self.motions(expression, basis))

    @abstractmethod
    def motion_basis(self) -> Tensor | None:
        """What ``motions`` needs and no expression changes, to be computed once."""

    @abstractmethod
    # [T, B] -> [T, N, 6]
    def motions(self, expression: Tensor, basis: Tensor | None = None) -> Tensor:
        """The motion of every Gaussian, an affine function of the coefficients.

        Only where the config has one.
        """

    @abstractmethod
    def inner(self, expression: Tensor) -> Tensor:  # [T, B] -> [T, N, I]
        """What the network's hidden layer adds up for each Gaussian.

        Without a network these are its outputs.
        """

    def outer(self, inner: Tensor) -> Tensor:  # [..., I] -> [..., O]
        """Harmonics, the opacity's logit, offset of the mean and rotation.

        There is as much of it as the model has.
        """
        return self.output(F.relu(inner)) if self.config.mlp else inner

    def blocks(self, size: int) -> list[tuple[int, int]]:
        """First and last + 1 of runs of at most ``size`` Gaussians that ``rows`` takes at once."""
        return [(first, min(first + size, self.num)) for first in range(0, self.num, size)]

    @abstractmethod
    def prepare(self) -> Tensor | None:
        """What ``rows`` needs and no expression changes, to be computed once."""

    @abstractmethod
    def mixture(self, expression: Tensor) -> Tensor:  # [1, B] -> whatever rows takes
        """What ``rows`` needs of an expression, for all Gaussians at once."""

    @abstractmethod
    # [last - first, I]
    def rows(self, first: int, last: int, mixture: Tensor, prepared: Tensor | None) -> Tensor:
        """``inner`` of one expression for some of the Gaussians.

        Without gradients, for drawing frame after frame.
        """

    def camera(self) -> Cameras:
        """The middle training camera, batch shape (1,)."""
        if not self.config.camera:
            return Cameras.orbit(0.0)
        return Cameras.from_label(torch.tensor(self.config.camera, device=self.device)[None])


def appearance_size(config: AvatarConfig) -> int:
    """Numbers that say what a Gaussian looks like: its harmonics and its opacity."""
    return 3 * sh.num_bases(config.sh_degree) + 1


def output_size(config: AvatarConfig) -> int:
    """Numbers per Gaussian that depend on the expression.

    Harmonics and opacity come first, then offset and rotation.
    """
    appearance = appearance_size(config)
    return {"appearance": appearance, "geometry": _GEOMETRY, "everything": appearance + _GEOMETRY}[
        config.changes
    ]


class Avatar(AvatarModel):
    """``avatar(expression) -> Gaussians``.

    Coefficients are clamped to what was seen in training (less tightly for motions) unless told not
    to.
    """

    def __init__(
        self,
        config: AvatarConfig,
        points: Tensor | None = None,
        *,
        count: int | None = None,
        spacing: float | Tensor = 0.02,
        seed: int = 0,
    ) -> None:
        """Start from ``points`` [N, 3] with the standard deviation ``spacing``.

        It is in world units, one number or [N].

        With ``count`` in place of points everything is zero, to be filled from a file.
        """
        super().__init__(config)
        points = torch.zeros(count or 0, 3) if points is None else points.float()
        n = len(points)
        spacing = torch.as_tensor(spacing, dtype=torch.float32).expand(n)
        self.means = nn.Parameter(points.clone())
        self.log_scales = nn.Parameter(spacing.log()[:, None].repeat(1, 3))
        self.quats = nn.Parameter(torch.tensor([1.0, 0, 0, 0]).repeat(n, 1))
        outputs, appearance = output_size(config), appearance_size(config)
        features = config.feature_dim if config.mlp else outputs
        self.basis = nn.Parameter(torch.zeros(config.width if config.blend else 0, n, features))
        self.bias = nn.Parameter(torch.zeros(n, features))
        if config.motion != "features":
            self.motion = nn.Parameter(torch.zeros(config.width, n, MOTION))
            self.reach = nn.Parameter(torch.zeros(config.width, n), requires_grad=False)
        if config.mirrored_grid:
            if not config.blend:
                raise UserError(
                    "`mirrored_grid` adds to the bases that expressions blend, and"
                    " `ablation='no-blending'` has none; leave one of them out."
                )
            # UV places where they were born
            self.anchors = nn.Parameter(torch.zeros(n, 2), requires_grad=False)
            self.grid = MirroredGrid(config.coefficient_names, features, config.mirrored_grid)
        if config.changes == "geometry":  # colors and opacities are stored, as in 3DGS
            self.static = nn.Parameter(torch.zeros(n, appearance))
        if config.mlp:
            inputs = features + 3 + 6 * config.frequencies + (0 if config.blend else config.width)
            self.hidden = _linear(inputs, config.hidden, seed, "hidden")
            self.output = _linear(config.hidden, outputs, seed, "output")
        with torch.no_grad():
            place = math.log(INITIAL_OPACITY / (1 - INITIAL_OPACITY))
            if config.mlp and config.changes != "geometry":
                # Bands whose turn in training has not come yet must not color anything.
                self.output.weight[3 : appearance - 1] = 0
                self.output.bias[3 : appearance - 1] = 0
            if config.changes == "geometry":
                self.static[:, -1] = place
            elif config.mlp:
                self.output.bias[appearance - 1] = place
            else:
                self.bias[:, appearance - 1] = place

    def per_gaussian(self) -> dict[str, int]:
        """The parameters with one entry per Gaussian -> the dimension of the Gaussians."""
        return {name: dim for name, dim in PER_GAUSSIAN.items() if hasattr(self, name)}

    def motion_basis(self) -> Tensor:  # [B, 6 N]
        return (self.reach[..., None] * self.motion).flatten(1)

    def motions(self, expression: Tensor, basis: Tensor | None = None) -> Tensor:
        return (expression @ (self.motion_basis() if basis is None else basis)).unflatten(
            -1, (-1, MOTION)
        )

    def inner(self, expression: Tensor) -> Tensor:
        config = self.config
        features = (
            blend(self.basis, self.bias, expression)
            if config.blend
            else self.bias.expand(len(expression), -1, -1)
        )
        if config.mirrored_grid:
            features = features + self.grid(expression, self.anchors)
        if not config.mlp:
            return features
        # The layer's weight is applied part by part: what is the same for all frames, or for all
        # Gaussians, is computed once.
        of_features, of_place, of_expression = self._parts()
        place = positional_encoding(self.means.detach(), config.frequencies)
        inner = F.linear(place, of_place, self.hidden.bias) + F.linear(features, of_features)
        return inner if config.blend else inner + F.linear(expression, of_expression)[:, None]

    def _parts(self) -> tuple[Tensor, ...]:
        """The hidden layer's weight for features, encoded mean and expression.

        The last has no columns where the expression is blended.
        """
        features, place = self.bias.shape[-1], 3 + 6 * self.config.frequencies
        weight = self.hidden.weight
        return (
            weight[:, :features],
            weight[:, features : features + place],
            weight[:, features + place :],
        )

    @torch.no_grad()
    def prepare(self) -> Tensor:  # [N, I]: without the coefficients
        return self.inner(self.means.new_zeros(1, self.config.width))[0]

    def mixture(self, expression: Tensor) -> Tensor:  # [N, F], or [I] without a basis
        if self.config.blend:
            mixed = (expression @ self.basis.flatten(1)).view_as(self.bias)
            return (
                mixed + self.grid(expression, self.anchors)[0]
                if self.config.mirrored_grid
                else mixed
            )
        return (
            F.linear(expression[0], self._parts()[2])
            if self.config.mlp
            else expression.new_zeros(())
        )

    def rows(self, first: int, last: int, mixture: Tensor, prepared: Tensor) -> Tensor:
        if not (self.config.blend and self.config.mlp):
            return prepared[first:last] + (mixture[first:last] if self.config.blend else mixture)
        return torch.addmm(prepared[first:last], mixture[first:last], self._parts()[0].T)


def _linear(inputs: int, outputs: int, seed: int, name: str) -> nn.Linear:
    """A layer with torch's own initialization from an explicit seed.

    It is uniform in +-1/sqrt(inputs).
    """
    layer = nn.Linear(inputs, outputs)
    random, bound = generator(seed, "avatar", name), 1 / math.sqrt(inputs)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=random)
        layer.bias.uniform_(-bound, bound, generator=random)
    return layer
