"""A prior over the latents of one generator.

Noise -> latents, by a rectified flow (Liu et al. 2023).

The flow matches the velocity of straight lines from noise to data (Lipman et al. 2023, equation
23): x_t = (1 - t) x_0 + t x_1, dx_t / dt = x_1 - x_0, so that t = 0 is noise and t = 1 a head. The
generator stays as it is.
"""

from typing import Literal, TypedDict, Unpack

import torch
from torch import Tensor, nn

from gghead.latent import Latent, fingerprints
from gghead.models.generator import Generator
from gghead.models.head_components import HeadComponents
from gghead.models.latent_tokens import LatentTokens
from gghead.models.prior_config import PriorConfig
from gghead.networks.dit import DiT
from gghead.torch_utils import rng
from gghead.torch_utils.checks import shape_fault
from gghead.torch_utils.errors import UserError


class DrawOptions(TypedDict, total=False):
    """The options of ``Prior.draw``."""

    steps: int
    solver: Literal["heun", "euler"]
    guidance: float
    cond: Tensor | None


class Prior(nn.Module):
    """Draws latents. ``tokens`` holds the training set's statistics, ``flow`` the network."""

    tokens: HeadComponents | LatentTokens
    cond_mean: Tensor  # [cond_dim]
    cond_std: Tensor

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        if config.dit.width % config.dit.heads:
            raise UserError(
                f"dit.heads ({config.dit.heads}) must divide dit.width ({config.dit.width})."
            )
        self.config = config
        self.tokens = (HeadComponents if config.tokens.components else LatentTokens)(config.tokens)
        dit = config.dit
        self.flow = DiT(
            self.tokens.kinds, dit.width, dit.depth, dit.heads, dit.mlp_ratio, config.cond_dim
        )
        self.register_buffer("cond_mean", torch.zeros(config.cond_dim))
        self.register_buffer("cond_std", torch.ones(config.cond_dim))

    @property
    def size(self) -> int:
        """Numbers in a head's tokens."""
        return sum(self.config.tokens.sizes)

    def check_owner(self, model: Generator, name: object = "the prior") -> None:
        """Raise ``UserError`` if the prior is over another generator's latents than ``model``'s."""
        if self.config.fingerprint != fingerprints(model)["network"]:
            raise UserError(
                f"{name} was trained on latents of the network '{self.config.network}'; take that"
                " one, or train a prior for this one."
            )

    def normalize(self, cond: Tensor) -> Tensor:  # [B, cond_dim]
        """Conditions as the network sees them.

        Raises ``UserError`` for another length, or for no condition at all.
        """
        if not self.config.cond_dim:
            raise UserError(
                "This prior was trained without conditions; leave out `cond`, or train one with"
                " conditions."
            )
        fault = shape_fault("The condition", cond, (self.config.cond_dim,))
        if fault is not None:
            raise UserError(fault)
        return (cond - self.cond_mean) / self.cond_std

    def noise(self, seed: int) -> Tensor:  # [1, D]
        """The noise of a seed, the same on every machine."""
        device = self.cond_mean.device
        return torch.randn(1, self.size, generator=rng.generator(seed, "prior")).to(device)

    @torch.no_grad()
    def sample(self, seed: int, **options: Unpack[DrawOptions]) -> Latent:
        """Draw one head; options as ``draw``.

        A seed's head does not depend on what else is drawn.
        """
        return self.draw(self.noise(seed), **options)

    @torch.no_grad()
    def draw(
        self,
        noise: Tensor,  # [B, D] standard normal
        steps: int = 20,
        solver: Literal["heun", "euler"] = "heun",
        # weight of classifier-free guidance: 0 no condition, 1 plain condition
        guidance: float = 1.0,
        cond: Tensor | None = None,  # [B or 1, cond_dim] as the user gave them; None: unconditional
    ) -> Latent:
        """Integrate the flow from noise to heads (Heun: two evaluations per step, second order)."""
        if cond is None and guidance != 1.0:
            raise UserError(
                "`guidance` strengthens a condition, but there is none; give `cond`, too."
            )
        cond = None if cond is None else self.normalize(cond.to(noise)).expand(len(noise), -1)
        x = noise
        times = torch.linspace(0, 1, steps + 1, device=noise.device)
        for now, after in zip(times[:-1], times[1:], strict=True):
            slope = self.velocity(x, now, cond, guidance)
            ahead = x + (after - now) * slope
            if solver == "heun":
                ahead = (
                    x + (after - now) * (slope + self.velocity(ahead, after, cond, guidance)) / 2
                )
            x = ahead
        return self.tokens.decode(x)

    def velocity(self, x: Tensor, t: Tensor, cond: Tensor | None, guidance: float = 1.0) -> Tensor:
        """Velocity with classifier-free guidance (Ho and Salimans 2022); ``cond`` normalized."""
        t = t.expand(len(x))
        if cond is None or guidance == 1.0:
            return self.predict(x, t, cond)
        return torch.lerp(self.predict(x, t, None), self.predict(x, t, cond), guidance)

    # [B, D]
    def predict(
        self, x: Tensor, t: Tensor, cond: Tensor | None, keep: Tensor | None = None
    ) -> Tensor:
        """The network's velocity, on top of the one that is right for normal data.

        Arguments as ``DiT``.

        Tokens are whitened, so that without the network E[x_1 - x_0 | x_t] would be (2t - 1) / (t^2
        + (1 - t)^2) x_t: an untrained prior draws from the normal distribution with the training
        set's moments, and the network learns only what differs from it (the idea of the
        preconditioning of Karras et al. 2022).
        """
        normal = (2 * t - 1) / (t.square() + (1 - t).square())
        return normal[:, None] * x + self.flow(x, t, cond, keep)
