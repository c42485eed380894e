"""The state of a decoder's run and one training step; no files, no printing.

An auto-decoder (Park et al. 2019, "DeepSDF", section 4): every captured head has a style of its
own, which is learned together with the generator that all heads share. Exact views from all sides
teach shapes that a discriminator of single images never sees.
"""

import copy
import math

import torch
from torch import Tensor, nn

from gghead.image_metrics import ImageLossConfig, image_loss
from gghead.models.generator import Generator, bearable
from gghead.perceptual.distances import Distance
from gghead.torch_utils.distributed import Processes, average_gradients
from gghead.torch_utils.rng import derive_seed, generator
from gghead.training.decoder.config import DecoderTrainConfig
from gghead.training.decoder.data import HeadViews, ViewBatch
from gghead.training.decoder.styles import principal_directions, set_distribution
from gghead.training.encoder.losses import surface_terms
from gghead.training.gan.judge import Judge
from gghead.training.run.health import Health
from gghead.training.run.moving_average import move_average
from gghead.training.run.precision import PRECISIONS
from gghead.training.run.stats import Stats

_FIRST_STYLES = 0.1  # standard deviation: people who look alike can still come together
_BETAS = 0.0, 0.99


class DecoderTrainer:
    """Generator, one style for each head, optimizers and moving average of one run."""

    def __init__(
        self,
        config: DecoderTrainConfig,
        heads: HeadViews,
        device: torch.device | str = "cpu",
        perceptual: Distance | None = None,
    ) -> None:
        """``perceptual`` maps images and truths [M, 3, S, S] in [-1, 1] to distances [M]."""
        self.config, self.device, self.heads = config, torch.device(device), heads
        self.perceptual, self.step_index = perceptual, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "init"))
            self.model = Generator(config.generator)
            self.styles = nn.Embedding(len(heads.heads), config.generator.w_dim, sparse=True)
            nn.init.normal_(self.styles.weight, std=_FIRST_STYLES)
            self.judge = None
            if config.loss.adversarial > 0:
                size = config.generator.image_size
                self.judge = Judge(config.discriminator, (size,), config.loss.r1_gamma, self.device)
        self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]: undeclared
        self.model.to(self.device).train()
        self.styles.to(self.device)
        self.dtype = PRECISIONS[config.precision]  # the discriminator's
        self.model.dtype = bearable(config.generator, self.dtype)
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        for parameter in self.model.mapping.parameters():  # it is computed from the styles
            parameter.requires_grad_(False)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=0.0, betas=_BETAS, fused=True)
        # The averages of a style move only where a step saw its head.
        self.style_optimizer = torch.optim.SparseAdam(
            self.styles.parameters(), lr=1e-9, betas=(0.9, 0.99)
        )
        self.region = self.model.features_of_face()
        self.stats = Stats()
        self.health = Health(self.stats)

    def step(self) -> None:
        """One update of the generator and of the styles of the heads that are seen.

        And one of the discriminator once its time has come.
        """
        config = self.config
        batch = self.heads.batch(config.batch, config.views, config.seed, self.step_index)
        batch = batch.to(self.device)
        styles = self.styles(batch.head)
        noise = self._normal("style", styles.shape)
        parts, shown = self.terms(self.model, batch, styles + config.style_noise * noise)
        parts["style"] = styles.square().mean()
        begin = config.loss.adversarial_from * config.steps
        judge = self.judge if self.step_index >= begin else None
        labels = batch.cameras.label()
        fakes, fake_labels = shown[:, 0], labels[:, 0]
        if judge is not None:
            view = min(1, config.views - 1)
            drawn = self._draw(batch, view)
            fakes = torch.cat([fakes, drawn])
            fake_labels = torch.cat([fake_labels, labels[:, view]])
            parts["adversarial"] = judge.loss(fakes, fake_labels, self.dtype)
        weights = {"pixels": 1.0, **vars(config.loss)}
        value = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        self._set_rates()
        self.optimizer.zero_grad(set_to_none=True)
        self.style_optimizer.zero_grad(set_to_none=True)
        value.backward()
        trained = self.optimizer.param_groups[0]["params"]
        self.health.count("decoder", average_gradients(trained, Processes(), value))
        self.optimizer.step()
        self.style_optimizer.step()
        for name, part in parts.items():
            self.stats.report(f"Loss/{name}", part)
        self.stats.report("Loss/total", value)
        if judge is not None:
            # the same cameras as the fakes', so that only looks tell them apart
            reals = torch.cat([batch.image[:, 0], batch.image[:, min(1, config.views - 1)]])
            judge.step(
                fakes,
                reals,
                fake_labels,
                fake_labels,
                self.dtype,
                self.step_index,
                self.stats,
                self.health,
            )
        half_life = min(config.rates.ema_steps, max(self.step_index, 1) * 0.1)
        move_average(self.ema, self.model, 1 - 0.5 ** (1 / max(half_life, 1e-8)))
        self.step_index += 1

    def _normal(self, purpose: str, shape: torch.Size) -> Tensor:
        source = generator(self.config.seed, purpose, self.step_index)
        return torch.randn(shape, generator=source).to(self.device)

    def _draw(self, batch: ViewBatch, view: int) -> Tensor:  # [B, 3, S, S]
        """Heads with styles from the normal distribution of all, seen as in a view of ``batch``."""
        with torch.no_grad():
            mean, directions = principal_directions(self.styles.weight)
            z = self._normal("draw", torch.Size((len(batch.head), directions.shape[1])))
            styles = mean + z @ directions.T
        model = self.model
        heads = model.gaussians(styles[:, None].expand(-1, model.num_ws, -1), "none")
        cameras, background = batch.cameras[:, view : view + 1], batch.background[:, view]
        out = model.render(heads, cameras, self.heads.size, background=background, depth=False)
        return out.color[:, 0]

    def terms(
        self, model: Generator, batch: ViewBatch, styles: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """All parts of the loss of heads with these styles, and what they look like.

        Styles are [B, w_dim], the images [B, V, 3, S, S].
        """
        loss = self.config.loss
        ws = styles[:, None].expand(-1, model.num_ws, -1)
        raw = model.raw_attributes(ws, "none")
        heads = model.attributes.activate(raw)
        parts = surface_terms(model.attributes, raw, heads, loss)
        if loss.region > 0:
            heads.features = self.region.expand(len(heads.means), -1, -1)
        out = model.render(
            heads,
            batch.cameras,
            batch.image.shape[-1],
            background=torch.zeros(1, 3, device=self.device),
            depth=False,
            features=loss.region > 0,
        )
        color = out.color + (1 - out.alpha) * batch.background[..., None, None]
        shown, wanted = color.flatten(0, 1), batch.image.flatten(0, 1)
        compared = shown
        if out.features is not None:
            weight = 1 + loss.region * out.features[:, :, -1:].flatten(0, 1).detach()
            compared = wanted + (shown - wanted) * weight
        how = ImageLossConfig(loss.l1, loss.l2, loss.gradient)
        parts["pixels"] = image_loss(compared, wanted, how).mean()
        parts["silhouette"] = (out.alpha - batch.alpha).abs().mean()
        if self.perceptual is not None and loss.perceptual > 0:
            parts["perceptual"] = self.perceptual(shown * 2 - 1, wanted * 2 - 1).mean()
        return parts, color

    def drawing_model(self) -> Generator:
        """The average, with a mapping network that draws styles like those that were learned."""
        model = copy.deepcopy(self.ema)
        set_distribution(model, self.styles.weight.detach())
        return model

    def _set_rates(self) -> None:
        rates, step = self.config.rates, self.step_index + 1
        share = min(step / max(self.config.steps, 1), 1.0)
        factor = min(step / max(rates.warmup, 1), 1.0)
        factor *= rates.last + (1 - rates.last) * 0.5 * (1 + math.cos(math.pi * share))
        self.optimizer.param_groups[0]["lr"] = factor * rates.generator
        self.style_optimizer.param_groups[0]["lr"] = factor * rates.styles

    def state_dict(self) -> dict:
        """Everything that a continuation needs, on CPUs bit for bit."""
        return {
            "step": self.step_index,
            "model": self.model.state_dict(),
            "styles": self.styles.weight.detach(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "style_optimizer": self.style_optimizer.state_dict(),
            "stats": self.stats.state_dict(),
            "judge": None if self.judge is None else self.judge.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue from ``state_dict``'s result."""
        self.step_index = state["step"]
        self.model.load_state_dict(state["model"])
        self.styles.load_state_dict({"weight": state["styles"]})
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.style_optimizer.load_state_dict(state["style_optimizer"])
        self.stats.load_state_dict(state["stats"])
        if self.judge is not None and state.get("judge") is not None:
            self.judge.load_state_dict(state["judge"])
