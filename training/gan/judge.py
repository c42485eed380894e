"""A discriminator that is trained beside something else than a GAN: an encoder or a decoder."""

import torch
from torch import Tensor

from gghead.models.config import DiscriminatorConfig
from gghead.models.generator import LABEL_DIM
from gghead.networks.discriminator import Discriminator
from gghead.torch_utils.distributed import Processes, average_gradients
from gghead.training.gan import losses
from gghead.training.run.health import Health
from gghead.training.run.stats import Stats

_R1_INTERVAL = 16
_LR = 2e-3


class Judge:
    """Discriminator, its optimizer, and the non-saturating loss of what it judges.

    Images are [M, 3, S, S] in [0, 1], labels [M, 25].
    """

    def __init__(
        self,
        options: DiscriminatorConfig,
        sizes: tuple[int, ...],
        r1_gamma: float,
        device: torch.device,
        processes: Processes | None = None,
    ) -> None:
        """``sizes`` are the sides of all images that it will see, growing.

        Weights are drawn from torch's own generator.
        """
        self.r1_gamma, self.processes = r1_gamma, processes or Processes()
        self.network = Discriminator(
            sizes,
            cbase=options.cbase,
            cmax=options.cmax,
            c_dim=LABEL_DIM if options.cond else 0,
            map_depth=options.map_depth,
            mbstd_group=options.mbstd_group,
        )
        self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]: undeclared
        self.network.to(device).train()
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=_LR, betas=(0.0, 0.99), fused=True
        )

    def loss(self, images: Tensor, labels: Tensor, dtype: torch.dtype) -> Tensor:
        """How unreal images look, differentiable by them alone."""
        self.network.requires_grad_(False)
        logits = self.network(images * 2 - 1, labels, 1.0, dtype)
        self.network.requires_grad_(True)
        return losses.generator_loss(logits).mean()

    def step(
        self,
        shown: Tensor,
        wanted: Tensor,
        shown_labels: Tensor,
        wanted_labels: Tensor,
        dtype: torch.dtype,
        index: int,
        stats: Stats,
        health: Health,
    ) -> None:
        """One update on what was shown and on what is true; R1 on every 16th ``index``."""
        fake = self.network(shown.detach() * 2 - 1, shown_labels, 1.0, dtype)
        true = self.network(wanted * 2 - 1, wanted_labels, 1.0, dtype)
        value = losses.discriminator_loss(fake, true).mean()
        if index % _R1_INTERVAL == 0 and self.r1_gamma > 0:
            real = (wanted * 2 - 1).detach().requires_grad_(True)
            logits = self.network(real, wanted_labels, 1.0, dtype)
            penalty = losses.gradient_penalty(logits, real)
            value = value + penalty.mean() * (self.r1_gamma / 2 * _R1_INTERVAL)
            stats.report("Loss/r1_penalty", penalty)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        bad = average_gradients(self.network.parameters(), self.processes, value)
        health.count("discriminator", bad)
        self.optimizer.step()
        stats.report("Loss/discriminator", value)

    def state_dict(self) -> dict:
        """Network and optimizer."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Continue from ``state_dict``'s result."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
