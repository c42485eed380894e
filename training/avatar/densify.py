"""Adding and removing Gaussians while an avatar is trained, with the optimizer's memory of them.

Adaptive density control of Kerbl et al. 2023 (3DGS, section 5), with the rules and constants of
gsplat's DefaultStrategy, on any device. Two things are HeadGaS's: children inherit basis and bias
(and motion), and, as the opacity follows the expression, a Gaussian goes if it was transparent in
all frames of a window instead of after a reset.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gghead.models.avatar import Avatar
from gghead.rendering.projection import quat_to_rotmat
from gghead.training.avatar.config import DensifyConfig

_SHRINK = 1.6  # standard deviations of the two halves of a split Gaussian, 3DGS


@dataclass
class Refinement:
    """What a refinement did, in numbers of Gaussians."""

    cloned: int = 0
    split: int = 0
    pruned: int = 0


class Densifier:
    """Collects image-plane gradients and opacities, and refines every so often."""

    def __init__(
        self, config: DensifyConfig, count: int, extent: float, frames: int, device: torch.device
    ) -> None:
        self.config, self.extent = config, extent
        self.window = min(max(frames, 1), config.window)
        self.gradient = torch.zeros(count, device=device)  # summed norm, halves of the image
        self.visible = torch.zeros(count, device=device)  # in how many frames
        self.opacity = torch.zeros(count, device=device)  # largest since `age` began
        self.age = torch.zeros(count, device=device)  # iterations

    def state_dict(self) -> dict[str, Tensor]:
        return {
            name: getattr(self, name).clone() for name in ("gradient", "visible", "opacity", "age")
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            setattr(self, name, value.to(self.gradient.device).clone())

    @torch.no_grad()
    def observe(
        self, means2d: Tensor, radii: Tensor, opacities: Tensor, size: tuple[int, int]
    ) -> None:
        """Take the projected means' gradient ``means2d`` [N, 2] in pixels.

        ``radii`` is [N, 2], ``opacities`` [N].
        """
        scale = means2d.new_tensor([size[0] / 2, size[1] / 2])
        seen = (radii > 0).all(-1)
        self.gradient += torch.where(seen, (means2d * scale).norm(dim=-1), 0.0)
        self.visible += seen
        self.opacity = torch.maximum(self.opacity, opacities)
        self.age += 1

    @torch.no_grad()
    def refine(
        self,
        avatar: Avatar,
        optimizer: torch.optim.Optimizer,
        iteration: int,
        random: torch.Generator,
    ) -> Refinement:
        """Clone, split, prune; ``iteration`` counts those done."""
        done = Refinement()
        scales = avatar.log_scales.exp().amax(-1)
        mean = self.gradient / self.visible.clamp_min(1)
        grow = self._cap(mean > self.config.gradient, mean)
        small = scales <= self.config.small * self.extent
        clone, split = (grow & small).nonzero()[:, 0], (grow & ~small).nonzero()[:, 0]
        done.cloned, done.split = len(clone), len(split)
        if done.cloned or done.split:
            self._grow(avatar, optimizer, clone, split, random)
        transparent = (self.age >= self.window) & (self.opacity < self.config.min_opacity)
        gone = transparent | ~torch.isfinite(avatar.means).all(-1)
        if iteration > self.config.large_from:
            gone |= avatar.log_scales.exp().amax(-1) > self.config.large * self.extent
        done.pruned = int(gone.sum())
        if done.pruned:
            self.select(avatar, optimizer, (~gone).nonzero()[:, 0])
        again = self.age >= self.window
        self.opacity[again], self.age[again] = 0, 0
        self.gradient.zero_()
        self.visible.zero_()
        return done

    def select(self, avatar: Avatar, optimizer: torch.optim.Optimizer, keep: Tensor) -> None:
        """Keep the Gaussians at the indices ``keep``, in that order."""
        replace_parameters(
            avatar,
            optimizer,
            {name: parameter.index_select(dim, keep) for name, dim, parameter in _all(avatar)},
            lambda value, dim: value.index_select(dim, keep),
        )
        for name in ("gradient", "visible", "opacity", "age"):
            setattr(self, name, getattr(self, name)[keep])

    def _cap(self, grow: Tensor, gradient: Tensor) -> Tensor:
        """At most as many as fit, those with the largest gradients."""
        room = self.config.max_gaussians - len(grow) if self.config.max_gaussians else len(grow)
        if int(grow.sum()) <= room:
            return grow
        chosen = torch.where(grow, gradient, -1.0).argsort(descending=True, stable=True)[
            : max(room, 0)
        ]
        return torch.zeros_like(grow).index_fill_(0, chosen, True)

    def _grow(
        self,
        avatar: Avatar,
        optimizer: torch.optim.Optimizer,
        clone: Tensor,
        split: Tensor,
        random: torch.Generator,
    ) -> None:
        """Append a copy of every clone.

        Put two smaller ones, drawn from it, in place of every split Gaussian.
        """
        count = avatar.num
        kept = (
            torch.ones(count, dtype=torch.bool, device=avatar.device)
            .index_fill_(0, split, False)
            .nonzero()[:, 0]
        )
        parents = torch.cat([kept, clone, split, split])
        values = {
            name: parameter.index_select(dim, parents) for name, dim, parameter in _all(avatar)
        }
        if len(split):
            halves = slice(len(kept) + len(clone), None)
            noise = torch.randn(2, len(split), 3, generator=random).to(avatar.device)
            offsets = (
                quat_to_rotmat(avatar.quats[split])
                @ (noise * avatar.log_scales[split].exp())[..., None]
            )
            values["means"][halves] += offsets[..., 0].flatten(0, 1)
            values["log_scales"][halves] -= torch.tensor(_SHRINK).log()
        fresh = len(parents) - len(kept)

        def extend(moment: Tensor, dim: int) -> Tensor:  # children have no history
            shape = [*moment.shape]
            shape[dim] = fresh
            return torch.cat([moment.index_select(dim, kept), moment.new_zeros(shape)], dim)

        replace_parameters(avatar, optimizer, values, extend)
        for name in ("gradient", "visible", "opacity", "age"):
            setattr(self, name, extend(getattr(self, name), 0))


def replace_parameters(
    avatar: Avatar,
    optimizer: torch.optim.Optimizer,
    values: dict[str, Tensor],
    moments: Callable[[Tensor, int], Tensor],
) -> None:
    """Give the avatar other per-Gaussian parameters.

    ``moments(value, dim)`` carries Adam's averages over.
    """
    groups = {group["name"]: group for group in optimizer.param_groups}
    for name, dim, old in list(_all(avatar)):
        new = nn.Parameter(values[name].contiguous(), requires_grad=old.requires_grad)
        setattr(avatar, name, new)
        if name not in groups:  # an empty basis is not optimized, nor are anchors
            continue
        groups[name]["params"] = [new]
        state = optimizer.state.pop(old, None)
        if state:
            optimizer.state[new] = {
                key: moments(value, dim).contiguous() if value.shape == old.shape else value
                for key, value in state.items()
            }


def _all(avatar: Avatar):
    for name, dim in avatar.per_gaussian().items():
        yield name, dim, getattr(avatar, name)
