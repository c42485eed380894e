"""One step of a prior's training, and everything that an exact resume needs."""

import copy
import math

import torch
from torch import Tensor

from gghead.latent import fingerprints
from gghead.models.generator import Generator
from gghead.models.head_components import fit_components
from gghead.models.latent_tokens import fit_tokens
from gghead.models.prior import Prior
from gghead.models.prior_config import PriorConfig
from gghead.torch_utils.distributed import Processes, average_gradients
from gghead.torch_utils.rng import generator
from gghead.training.prior.config import PriorTrainConfig
from gghead.training.prior.data import Heads
from gghead.training.run.health import Health
from gghead.training.run.moving_average import move_average
from gghead.training.run.stats import Stats

_CHECKED = 256  # heads whose loss is measured at every tick


def new_prior(
    config: PriorTrainConfig, model: Generator, heads: Heads, cond: Tensor | None
) -> Prior:
    """A prior with the statistics of ``heads`` and an untrained network."""
    options = config.tokens
    tokens = (
        fit_components(heads.batches(), options.components)
        if options.components
        else fit_tokens(
            heads.batches(), options.patch, options.w_share, options.z_share, options.z_limit
        )
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        prior = Prior(
            PriorConfig(
                tokens.shape,
                config.dit,
                0 if cond is None else cond.shape[1],
                config.network,
                fingerprints(model)["network"],
            )
        )
    prior.tokens = tokens
    if cond is not None:
        prior.cond_mean.copy_(cond.mean(0))
        prior.cond_std.copy_(cond.std(0).clamp_min(1e-6))
    return prior


class PriorTrainer:
    """Trains on random batches. Everything random follows from the seed and the step."""

    def __init__(
        self,
        config: PriorTrainConfig,
        prior: Prior,
        heads: Heads,
        held_out: Heads | None,
        cond: Tensor | None,
        held_out_cond: Tensor | None,
        device: torch.device,
    ) -> None:
        self.config, self.device, self.step_number = config, device, 0
        self.prior = prior.to(device).train()
        self.average = copy.deepcopy(self.prior).eval().requires_grad_(False)
        # by the held-out loss, with patience
        self.best, self.best_step, self.best_loss = self.average, 0, math.inf
        self.data, self.cond = self._encode(heads, cond)
        self.held_out, self.held_out_cond = (
            (None, None) if held_out is None else self._encode(held_out, held_out_cond)
        )
        self.stats = Stats()
        self.health = Health(self.stats)
        self.optimizer = torch.optim.AdamW(
            self.prior.flow.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )

    @torch.no_grad()
    def _encode(self, heads: Heads, cond: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = torch.cat(
            [
                self.prior.tokens.encode(latent.map(lambda value: value.to(self.device)))
                for latent in heads.batches()
            ]
        )
        return x, None if cond is None else self.prior.normalize(cond.to(self.device))

    # ------------------------------------------------------------------ stepping
    def step(self) -> None:
        """Draw heads, noise and times, and follow the flow's gradient."""
        config, random = self.config, generator(self.config.seed, "prior-step", self.step_number)
        index = torch.randint(len(self.data), (config.batch,), generator=random).to(self.device)
        noise, t = self._noise_and_times(config.batch, random)
        keep = (torch.rand(config.batch, generator=random) >= config.cond_drop).to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step_number)
        loss = self._loss(
            self.prior,
            self.data[index],
            None if self.cond is None else self.cond[index],
            noise,
            t,
            keep,
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss["total"].backward()
        self.health.count(
            "prior", average_gradients(self.prior.flow.parameters(), Processes(), loss["total"])
        )
        norm = torch.nn.utils.clip_grad_norm_(self.prior.flow.parameters(), 1.0)
        self.optimizer.step()
        self.step_number += 1
        self._update_average()
        for name, value in loss.items():
            self.stats.report(f"Loss/{name}", value)
        self.stats.report("Progress/gradient_norm", norm)

    def _noise_and_times(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        noise = torch.randn(count, self.prior.size, generator=random)
        t = torch.sigmoid(
            self.config.t_mean + self.config.t_std * torch.randn(count, generator=random)
        )
        return noise.to(self.device), t.to(self.device)

    def _loss(
        self,
        prior: Prior,
        x: Tensor,
        cond: Tensor | None,
        noise: Tensor,
        t: Tensor,
        keep: Tensor | None,
    ) -> dict[str, Tensor]:
        """Mean square error of the velocity.

        Styles and residual count the same however many tokens they have.
        """
        moved = torch.lerp(noise, x, t[:, None])
        error = (prior.predict(moved, t, cond, keep) - (x - noise)).square()
        parts = error.split([size for size in prior.config.tokens.sizes if size], dim=1)
        losses = {name: part.mean() for name, part in zip(("w", "z"), parts, strict=False)}
        return {**losses, "total": sum(losses.values(), torch.zeros(())) / len(losses)}

    def _update_average(self) -> None:
        """Move the average with decay min(ema, (1 + n) / (10 + n)).

        So it soon forgets the start.
        """
        decay = min(self.config.ema, (1 + self.step_number) / (10 + self.step_number))
        move_average(self.average.flow, self.prior.flow, 1 - decay)

    @torch.no_grad()
    def check(self) -> dict[str, float]:
        """Loss of the average on training and on held-out heads.

        Noise and times are the same at every tick.

        With patience the best average so far is kept.
        """
        losses = {}
        for name, x, cond in (
            ("train", self.data, self.cond),
            ("held_out", self.held_out, self.held_out_cond),
        ):
            if x is None or not len(x):
                continue
            random = generator(self.config.seed, "prior-check")
            noise, t = self._noise_and_times(_CHECKED, random)
            index = torch.arange(_CHECKED, device=self.device) % len(x)
            losses[name] = float(
                self._loss(
                    self.average, x[index], None if cond is None else cond[index], noise, t, None
                )["total"]
            )
        if self.config.patience and losses.get("held_out", math.inf) < self.best_loss:
            self.best, self.best_step, self.best_loss = (
                copy.deepcopy(self.average),
                self.step_number,
                losses["held_out"],
            )
        return losses

    @property
    def exhausted(self) -> bool:
        """Whether the held-out loss has not fallen for as long as the config's patience lasts."""
        config = self.config
        return (
            0 < config.patience * config.tick <= self.step_number - self.best_step
            and self.best_loss < math.inf
        )

    @property
    def result(self) -> tuple[Prior, int]:
        """The prior to save and its step: the average, or with patience the best one so far."""
        return (
            (self.best, self.best_step)
            if self.best_loss < math.inf
            else (self.average, self.step_number)
        )

    # -------------------------------------------------------------------- states
    def state_dict(self) -> dict:
        """Plain values and tensors.

        ``load_state_dict`` continues from them, on CPUs bit for bit.
        """
        return {
            "step": self.step_number,
            "prior": self.prior.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "stats": self.stats.state_dict(),
            "best": (self.best.state_dict(), self.best_step, self.best_loss),
        }

    def load_state_dict(self, state: dict) -> None:
        self.prior.load_state_dict(state["prior"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.stats.load_state_dict(state["stats"])
        self.step_number = state["step"]
        if "best" in state:
            best, self.best_step, self.best_loss = state["best"]
            self.best = copy.deepcopy(self.average)
            self.best.load_state_dict(best)


def learning_rate(config: PriorTrainConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to a twentieth."""
    warm = min((step + 1) / max(config.warmup, 1), 1.0)
    share = min(step / max(config.steps, 1), 1.0)
    return config.lr * warm * (0.05 + 0.95 * (1 + math.cos(math.pi * share)) / 2)
