"""The state of an encoder's run and one training step; no files, no printing."""

import copy
import functools
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gghead.data.loader import StepReader
from gghead.models.generator import Generator
from gghead.models.reconstructor import Reconstructor, with_background
from gghead.perceptual.distances import Distance
from gghead.rendering import render
from gghead.torch_utils.distributed import Processes, average_gradients
from gghead.torch_utils.rng import derive_seed
from gghead.training.encoder import losses
from gghead.training.encoder.config import EncoderTrainConfig, stage_at
from gghead.training.encoder.data import CaptureHeads, HeadBatch, SampledHeads, draws_from_gan
from gghead.training.gan.judge import Judge
from gghead.training.run.health import Health
from gghead.training.run.moving_average import move_average
from gghead.training.run.precision import PRECISIONS
from gghead.training.run.stats import Stats

# not trained: the latent space stays that of the generator
_GENERATOR_PARTS = ("mapping.", "synthesis.")


class EncoderTrainer:
    """Encoder, decoder, late discriminator, optimizers and moving average of one run."""

    def __init__(
        self,
        config: EncoderTrainConfig,
        captures: CaptureHeads | None,
        device: torch.device | str = "cpu",
        processes: Processes | None = None,
        init: Reconstructor | Generator | None = None,
        perceptual: Distance | None = None,
    ) -> None:
        """``init`` is the network that ``config.init`` names.

        ``perceptual`` maps images and truths to [M].
        """
        self.config, self.device = config, torch.device(device)
        self.processes = processes or Processes()
        self.captures, self.perceptual, self.step_index = captures, perceptual, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "init"))
            self.model = Reconstructor(config.model)
            self.judge = None
            if config.loss.adversarial > 0:
                sizes = tuple(sorted({stage.image_size for stage in config.stages}))
                self.judge = Judge(
                    config.discriminator,
                    sizes,
                    config.loss.r1_gamma,
                    self.device,
                    self.processes,
                )
        self._init_from(init)
        self.model.to(self.device).train()
        self.model.dtype = PRECISIONS[config.precision]
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.samples = None
        if config.data.gan_share > 0:
            source = init.generator if isinstance(init, Reconstructor) else init
            if source is None:
                raise ValueError("data.gan_share asks for samples, but there is no init to draw.")
            self.samples = SampledHeads(
                copy.deepcopy(source).to(self.device).eval().requires_grad_(False),
                config.stages[0].image_size,
            )
        self._freeze()
        rates = config.rates
        groups = [{"params": self.encoder_parameters, "name": "encoder", "peak": rates.encoder}]
        if self.decoder_parameters:
            groups.append(
                {"params": self.decoder_parameters, "name": "decoder", "peak": rates.decoder}
            )
        self.optimizer = torch.optim.Adam(
            groups, lr=0.0, betas=(rates.beta1, rates.beta2), fused=True
        )
        self._reader: StepReader[HeadBatch] | None = None
        self.stats = Stats()
        self.health = Health(self.stats)

    def _init_from(self, init: Reconstructor | Generator | None) -> None:
        if isinstance(init, Reconstructor):
            kept = self.model.state_dict()
            self.model.load_state_dict(kept | init.state_dict())  # corrections may be new
        elif init is not None:
            self.model.generator.load_state_dict(init.state_dict())

    def _freeze(self) -> None:
        """Leave mapping and synthesis, and the decoder if it is to stay, as they are."""
        for name, parameter in self.model.generator.named_parameters():
            frozen = name.startswith(_GENERATOR_PARTS) or self.config.rates.decoder == 0
            parameter.requires_grad_(not frozen)
        own = {id(p) for p in self.model.generator.parameters()}
        self.encoder_parameters = [p for p in self.model.parameters() if id(p) not in own]
        self.decoder_parameters = [p for p in self.model.generator.parameters() if p.requires_grad]

    # ------------------------------------------------------------------- reading
    def _shows_samples(self, step: int) -> bool:
        """Whether a step sees the GAN's samples."""
        return self.samples is not None and draws_from_gan(
            self.config.data.gan_share, self.config.seed, step
        )

    def _read(self, source: CaptureHeads | SampledHeads, step: int) -> HeadBatch:
        stage, processes = stage_at(self.config.stages, step), self.processes
        share = stage.batch // processes.world_size
        rows = slice(processes.rank * share, (processes.rank + 1) * share)
        return source.batch(stage, self.config.seed, step, rows)

    def read_ahead(self) -> None:
        """Read the captures of later steps in the background from now on.

        It does so as long as images keep their size.
        """
        self.close()
        captures, stages = self.captures, self.config.stages
        if captures is None:
            return
        heads = max(stage.batch * (max(stage.views) + stage.targets) for stage in stages)

        def steps(first: int) -> Iterator[int]:
            later = itertools.takewhile(
                lambda step: stage_at(stages, step).image_size == captures.size,
                range(first, self.config.steps),
            )
            return (step for step in later if not self._shows_samples(step))

        self._reader = StepReader(
            functools.partial(self._read, captures),
            steps,
            self.processes.world_size,
            16 * heads // self.processes.world_size * captures.size**2,
        )

    def close(self) -> None:
        """Stop reading ahead."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    # ------------------------------------------------------------------ stepping
    def step(self) -> None:
        """One update of the encoder (and decoder), and one of the discriminator in its time."""
        config, stage = self.config, stage_at(self.config.stages, self.step_index)
        sampled = self._shows_samples(self.step_index)
        source = self.samples if sampled else self.captures
        if self._reader is not None and not sampled:
            batch = self._reader(self.step_index)
        else:
            assert source is not None  # config.check asks for data or for samples
            batch = self._read(source, self.step_index)
        judge = self.judge if self.step_index >= config.loss.adversarial_from else None
        parts, shown, wanted = self.terms(self.model, batch, stage.region, judge)
        value = losses.total(parts, config.loss)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        trained = [*self.encoder_parameters, *self.decoder_parameters]
        self.health.count("encoder", average_gradients(trained, self.processes, value))
        norm = nn.utils.clip_grad_norm_(self.encoder_parameters, config.rates.clip)
        self._set_rates()
        self.optimizer.step()
        for name, part in parts.items():
            self.stats.report(f"Loss/{name}", part)
        self.stats.report("Loss/total", value)
        self.stats.report("Progress/gradient_norm", norm)
        if judge is not None:
            labels = batch.target_cameras.label().flatten(0, 1).to(self.device)
            judge.step(
                shown,
                wanted.to(self.device),
                labels,
                labels,
                self.model.dtype,
                self.step_index,
                self.stats,
                self.health,
            )
        self._update_ema()
        self.step_index += 1

    def terms(
        self,
        model: Reconstructor,
        batch: HeadBatch,
        region: float = 0.0,
        judge: Judge | None = None,
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """All parts of the loss, and images shown and wanted [B * T, 3, S, S]."""
        config, generator = self.config.loss, model.generator
        batch = batch.to(self.device)
        predicted = model.predict(batch.rgb, batch.cameras)
        latent = predicted.latent
        z = latent.features(generator)
        raw = generator.decode(z.to(generator.dtype), latent.ws)
        heads = generator.attributes.activate(raw)
        if region > 0:
            heads.features = generator.features_of_face().expand(len(heads.means), -1, -1)
        surface = losses.surface_terms(generator.attributes, raw, heads, config)
        if config.place > 0 and predicted.offset is not None:
            surface["place"] = losses.place_term(generator.attributes, heads, predicted.offset)
        whole = with_background(heads, predicted.background)
        out = render(
            whole,
            batch.target_cameras,
            batch.target.shape[-1],
            background=1.0,
            depth=False,
            features=whole.features is not None,
        )
        shown, wanted = out.color.flatten(0, 1), batch.target.flatten(0, 1)
        # Features are: the head, if there is a rig behind it; then its regions, if they have
        # weight.
        weight, alpha = None, out.alpha
        if out.features is not None:
            if region > 0:
                weight = region * out.features[:, :, -1:].flatten(0, 1).detach()
            if predicted.background is not None:
                alpha = out.features[:, :, :1]
        parts = losses.image_terms(
            shown, wanted, alpha.flatten(0, 1), batch.alpha.flatten(0, 1), weight, config
        )
        parts |= surface
        if self.perceptual is not None and config.perceptual > 0:
            parts["perceptual"] = self.perceptual(shown * 2 - 1, wanted * 2 - 1).mean()
        if batch.ws is not None and batch.z is not None and config.latent > 0:
            parts["latent"] = (z.float() - batch.z).square().mean() + (
                latent.ws - batch.ws
            ).square().mean()
        if judge is not None:
            labels = batch.target_cameras.label().flatten(0, 1)
            parts["adversarial"] = judge.loss(shown, labels, model.dtype)
        return parts, shown, wanted

    def _set_rates(self) -> None:
        rates, step = self.config.rates, self.step_index + 1
        share = min(step / max(self.config.steps, 1), 1.0)
        factor = min(step / max(rates.warmup, 1), 1.0)
        factor *= rates.last + (1 - rates.last) * 0.5 * (1 + math.cos(math.pi * share))
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["peak"]

    def _update_ema(self) -> None:
        half_life = min(self.config.rates.ema_steps, max(self.step_index, 1) * 0.1)
        beta = 0.5 ** (1 / max(half_life, 1e-8))
        move_average(self.ema, self.model, 1 - beta)

    # -------------------------------------------------------------------- states
    def state_dict(self) -> dict:
        """Plain values and tensors; ``load_state_dict`` continues from them, on CPUs bit for bit.

        All processes must call it, because the statistics are those of all of them.
        """
        state = {
            "step": self.step_index,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "stats": self.stats.state_dict(),
        }
        if self.judge is not None:
            state["judge"] = self.judge.state_dict()
        return state

    def load_state_dict(self, state: dict) -> None:
        """Continue from ``state_dict``'s result."""
        self.step_index = state["step"]
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.stats.load_state_dict(state["stats"] if self.processes.is_first else {})
        if self.judge is not None:
            self.judge.load_state_dict(state["judge"])
