"""Drawing one avatar frame after frame as fast as a CPU can: what no expression changes is computed
once.

The rest goes through the network in blocks of Gaussians that stay in the processor's cache,
straight to one colour and one opacity per Gaussian: the harmonics of a frame are never written out.
With a tolerance, Gaussians whose look cannot have changed by more than that keep it.
"""

import math

import torch
from torch import Tensor

from gghead import sh
from gghead.cameras import Cameras
from gghead.models.avatar import REST_GAIN, AvatarModel, appearance_size
from gghead.rendering import rasterization, render
from gghead.torch_utils.errors import UserError

_BLOCK = 2048  # Gaussians: hidden layer and outputs of a block take about a megabyte
_TINY = 1e-24  # squared length of a direction that counts as none
# share of changed Gaussians up to which picking them out is cheaper than doing all
_WORTH_PICKING = 0.6


class Player:
    """``draw(expression, camera, size)`` for one avatar, whose parameters must not change
    meanwhile.

    ``tolerance`` None evaluates all Gaussians in every frame. Otherwise a Gaussian is left as it
    was while a bound on the change of its opacity and of its colour channels, from any direction
    and since it was last evaluated, is at most ``tolerance`` (both in [0, 1], so 1/255 is a step of
    a picture; 0 leaves only what did not change at all).
    """

    def __init__(self, avatar: AvatarModel, *, tolerance: float | None = None) -> None:
        if tolerance is not None and not tolerance >= 0:
            raise UserError(f"The tolerance must be 0 or more, but it is {tolerance}.")
        self.avatar, self.tolerance = avatar, tolerance
        self.evaluated = 0
        """How many Gaussians the last frame put through the network."""
        # there the network moves the Gaussians, too
        self._plain = avatar.config.changes != "appearance"
        if self._plain:
            return
        with torch.no_grad():
            self._moves = avatar.config.motion != "features"
            self._motion_basis = avatar.motion_basis() if self._moves else None
            self._prepared = avatar.prepared()
            self._means, self._quats = avatar.means.detach(), avatar.quats.detach()
            self._scales = avatar.log_scales.detach().exp()
            self._blocks = avatar.blocks(_BLOCK if avatar.device.type == "cpu" else avatar.num)
        count, device = avatar.num, avatar.device
        self._colors, self._opacities = (
            torch.zeros(3, count, device=device),
            torch.zeros(count, device=device),
        )
        self._seen: tuple[Tensor, Tensor] | None = None  # pose and harmonics' values from there
        if tolerance is not None:
            self._bounds = change_bounds(avatar)
            # The hidden layer's activations when a Gaussian was last evaluated, and what came out.
            self._hidden = torch.full((count, len(self._bounds)), torch.inf, device=device)
            self._raw = torch.zeros(appearance_size(avatar.config), count, device=device)

    @torch.no_grad()
    def draw(
        self,
        expression: Tensor,
        camera: Cameras,
        size: tuple[int, int],
        *,
        background: float = 1.0,
        clamp: bool = True,
    ) -> Tensor:  # [3, H, W] in [0, 1]
        """One picture of ``expression`` [B] from ``camera`` (batch shape (1,)). Raises
        ``UserError`` as the avatar."""
        avatar = self.avatar
        expression, camera = (
            expression[None].to(avatar.device),
            camera.to(avatar.device, torch.float32),
        )
        if self._plain:
            self.evaluated = avatar.num
            gaussians = avatar(expression, clamp=clamp)
            return (
                render(gaussians, camera, size, background=background, depth=False)
                .color[0, 0]
                .clamp(0, 1)
            )
        self.shade(self.blend(expression, clamp), camera)
        return self.raster(camera, size, background)

    @torch.no_grad()
    def blend(self, expression: Tensor, clamp: bool = True) -> Tensor:
        """The part of a frame that mixes bases or movements by ``expression`` [1, B], and moves
        Gaussians."""
        seen = self.avatar.check(expression, clamp)
        if self._moves:
            moving = self.avatar.moving(expression, clamp)
            self._means, self._quats = (
                part[0] for part in self.avatar.place(moving, self._motion_basis)
            )
            self._seen = None
        return self.avatar.mixture(seen)

    @torch.no_grad()
    def shade(self, mixture: Tensor, camera: Cameras) -> None:
        """The network's part: colours towards the camera, opacities."""
        values = self._harmonics(camera)
        self.evaluated = 0
        for first, last in self._blocks:
            hidden = self.avatar.rows(first, last, mixture, self._prepared)
            hidden = hidden.relu_() if self.avatar.config.mlp else hidden
            raw = self._outputs(first, last, hidden)  # [O, n]
            torch.sigmoid(raw[len(values) * 3], out=self._opacities[first:last])
            looks = (
                raw[: len(values) * 3].unflatten(0, (len(values), 3)) * values[:, None, first:last]
            )
            torch.sum(looks, 0, out=self._colors[:, first:last])
        self._colors.add_(0.5).clamp_min_(0.0)

    @torch.no_grad()
    def raster(self, camera: Cameras, size: tuple[int, int], background: float = 1.0) -> Tensor:
        """The picture of what was shaded last."""
        backgrounds = self._colors.new_full((1, 1, 3), background)
        picture, _, _ = rasterization(
            self._means[None],
            self._quats[None],
            self._scales[None],
            self._opacities[None],
            self._colors.T.contiguous()[None],
            camera.viewmats[None],
            camera.Ks(*size)[None],
            *size,
            backgrounds=backgrounds,
        )
        return picture[0, 0].movedim(-1, 0).clamp(0, 1)

    def _harmonics(self, camera: Cameras) -> Tensor:  # [K, N]
        """The harmonics towards every Gaussian, which follow the camera only."""
        pose = camera.cam2world
        if self._seen is None or not torch.equal(self._seen[0], pose):
            directions = sh.directions(self._means, camera.viewmats)[0].T.contiguous()  # [3, N]
            # Not by F.normalize, whose norm along the first dimension takes longer than all
            # harmonics.
            directions *= directions.square().sum(0).clamp_min_(_TINY).rsqrt_()
            values = sh.basis(self.avatar.config.sh_degree, directions, 0)
            values[1:] *= REST_GAIN
            self._seen = pose.clone(), values
        return self._seen[1]

    def _outputs(self, first: int, last: int, hidden: Tensor) -> Tensor:  # [O, n]
        if self.tolerance is None:
            self.evaluated += last - first
            return self._network(hidden)
        kept, raw = self._hidden[first:last], self._raw[:, first:last]
        # not so for the first frame's NaN
        near = ((hidden - kept).abs() @ self._bounds).amax(1) <= self.tolerance
        changed = (~near).nonzero()[:, 0]
        self.evaluated += len(changed)
        if len(changed) > _WORTH_PICKING * (last - first):
            kept.copy_(hidden)
            raw.copy_(self._network(hidden))
        elif len(changed):
            hidden = hidden[changed]
            kept[changed] = hidden
            raw[:, changed] = self._network(hidden)
        return raw

    def _network(self, hidden: Tensor) -> Tensor:  # [n, I] -> [O, n]
        if not self.avatar.config.mlp:
            return hidden.T
        output = self.avatar.output
        return torch.addmm(output.bias[:, None], output.weight, hidden.T)


@torch.no_grad()
def change_bounds(avatar: AvatarModel) -> Tensor:  # [I, 4]
    """How far a unit of each hidden activation can move the opacity and the three colour channels
    at most.

    The opacity's sigmoid has a slope of at most 1/4. The squares of all harmonics of a degree or
    less sum up to (degree + 1)^2 / 4 pi in every direction (the addition theorem), so Cauchy and
    Schwarz bound what a vector of coefficients does to the colour.
    """
    config = avatar.config
    weight = (
        avatar.output.weight
        if config.mlp
        else torch.eye(appearance_size(config), device=avatar.device)
    )
    harmonics, opacity = weight[:-1].unflatten(0, (-1, 3)), weight[-1]  # [K, 3, I], [I]
    rest = math.sqrt((len(harmonics) - 1) / (4 * math.pi)) * REST_GAIN * harmonics[1:].norm(dim=0)
    return torch.cat([opacity.abs()[None] / 4, sh.C0 * harmonics[0].abs() + rest]).T.contiguous()
