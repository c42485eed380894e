"""The state of a run and one training step; no files, no printing."""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.models.config import GeneratorConfig
from gghead.models.generator import LABEL_DIM, Generator, bearable
from gghead.networks.discriminator import Discriminator
from gghead.rendering import RenderOutput
from gghead.torch_utils.distributed import Processes, average_gradients, sum_over_processes
from gghead.torch_utils.rng import derive_seed, generator
from gghead.training.gan import config as schedule
from gghead.training.gan import losses
from gghead.training.gan.augment import AdaController, AugmentPipe
from gghead.training.gan.config import Stage, TrainConfig
from gghead.training.run.health import Health
from gghead.training.run.moving_average import move_average
from gghead.training.run.precision import PRECISIONS
from gghead.training.run.stats import Stats


class Trainer:
    """Networks, optimizers, moving average and augmentation of one run.

    Every random number of a step derives from (seed, purpose, step), so the state holds no
    generators. A resumed run continues bit for bit on CPUs, with as many threads and processes as
    before; on CUDA up to rounding, because some of its kernels add in an order that changes. Draws
    are made for the whole batch and then cut, so they do not depend on the number of processes;
    only the noise inside the networks is drawn per process.
    """

    def __init__(
        self,
        config: TrainConfig,
        labels: Tensor,
        device: torch.device | str = "cpu",
        processes: Processes | None = None,
    ) -> None:
        """``labels`` [M, 25] are the cameras that fakes are drawn from.

        Normally they are those of the data set.
        """
        self.config, self.device = config, torch.device(device)
        self.processes = processes or Processes()
        self.step_index = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "init"))
            self.G = Generator(generator_at(config.generator, config.stages[0]))
            self.D = build_discriminator(config)
        for module in (self.G, self.D):
            module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]: undeclared
            module.to(self.device).train()
        self.G_ema = copy.deepcopy(self.G).eval().requires_grad_(False)
        self.dtype = PRECISIONS[config.precision]  # the discriminator's
        self.G.dtype = self.G_ema.dtype = bearable(config.generator, self.dtype)
        optimizer, ratio = config.optimizer, config.loss.r1_interval / (config.loss.r1_interval + 1)
        self.g_optimizer = torch.optim.Adam(
            self.G.parameters(),
            lr=optimizer.g_lr,
            betas=(optimizer.beta1, optimizer.beta2),
            fused=True,
        )
        # Lazy regularization adds one update in r1_interval + 1 (StyleGAN2, appendix B).
        self.d_optimizer = torch.optim.Adam(
            self.D.parameters(),
            lr=optimizer.d_lr * ratio,
            betas=(optimizer.beta1**ratio, optimizer.beta2**ratio),
            fused=True,
        )
        self.anchor: Generator | None = None
        """The generator that the run started from, where shapes are held to its shapes."""
        self.augment = AugmentPipe(config.augment).to(self.device)
        self.ada = AdaController(config.augment)
        self.labels = labels.to(self.device, torch.float32)
        # sum and count since p last changed, whole numbers
        self.sign_sum = torch.zeros(2, device=self.device)
        # from the generator's phase to the discriminator's
        self._kept_fakes: list[tuple[Tensor, Tensor]] = []
        self.stats = Stats()
        self.health = Health(self.stats)
        self._apply_stage()

    @property
    def nimg(self) -> int:
        """Real images shown so far."""
        return self.step_index * self.config.batch

    @property
    def seen(self) -> int:
        """The same with those that the networks of ``--init`` had seen: what warm-ups count."""
        return self.nimg + round(self.config.init_kimg * 1000)

    def anchor_shapes(self) -> None:
        """Hold shapes to those of the generator as it is now, with the config's weight."""
        self.anchor = copy.deepcopy(self.G).eval().requires_grad_(False)

    def begin_at(self, step: int) -> None:
        """Set the counter, for a run that does not begin with the first stage."""
        self.step_index = step
        self._apply_stage()

    def step(self, batch: dict[str, Tensor]) -> None:
        """One generator update, one discriminator update, and now and then a penalty.

        The gradient penalty comes every ``r1_interval`` steps.

        ``batch`` is this process's share: image uint8 [b, 3, S, S], alpha uint8 [b, 1, S, S], label
        float32 [b, 25].
        """
        self._apply_stage()
        reals, real_c = self._reals(batch)
        self._update(
            "generator",
            self.g_optimizer,
            lambda part: self._generator_pass(part, reals, real_c),
            len(reals),
        )
        self._update(
            "discriminator",
            self.d_optimizer,
            lambda part: self._discriminator_pass(part, reals, real_c),
            len(reals),
        )
        if self.step_index % self.config.loss.r1_interval == 0 and self.config.loss.r1_gamma > 0:
            self._update(
                "discriminator's penalty",
                self.d_optimizer,
                lambda part: self._penalty_pass(part, reals, real_c),
                len(reals),
            )
        self._update_ema()
        self.step_index += 1
        if (
            self.config.augment.mode == "ada"
            and self.step_index % self.config.augment.interval == 0
        ):
            self._update_augment()

    # --------------------------------------------------------------------------------------- phases

    def _update(
        self,
        name: str,
        optimizer: torch.optim.Optimizer,
        loss_of: Callable[[slice], Tensor],
        share: int,
    ) -> None:
        """Accumulate gradients over this process's share, average over processes, and step."""
        module, other = (self.G, self.D) if optimizer is self.g_optimizer else (self.D, self.G)
        other.requires_grad_(False)
        size, total = self.config.batch_gpu or share, torch.zeros((), device=self.device)
        for begin in range(0, share, size):
            loss = loss_of(slice(begin, begin + size)) * (size / share)
            loss.backward()
            total += loss.detach()
        other.requires_grad_(True)
        self.health.count(name, average_gradients(module.parameters(), self.processes, total))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _generator_pass(self, part: slice, reals: Tensor, real_c: Tensor) -> Tensor:
        loss = self.config.loss
        reuse = loss.reuse_fakes
        fakes, c, terms = self._fakes("G", part, regularize=True, update_w_avg=reuse)
        if reuse:
            self._kept_fakes.append((fakes.detach(), c))
        logits = self._logits(fakes, c, "G", part)
        paired = None
        if loss.kind == "relativistic":
            with torch.no_grad():
                paired = self._logits(reals[part], real_c[part], "G/real", part)
        adversarial = losses.generator_loss(logits, paired).mean()
        self.stats.report("Loss/scores/fake", logits)
        self.stats.report("Loss/signs/fake", logits.sign())
        self.stats.report("Loss/G/loss", adversarial)
        total = adversarial
        for name, (weight, value) in terms.items():
            self.stats.report(f"Loss/G/{name}", value)
            total = total + weight * value
        return total

    def _discriminator_pass(self, part: slice, reals: Tensor, real_c: Tensor) -> Tensor:
        if self.config.loss.reuse_fakes:
            fakes, c = self._kept_fakes.pop(0)
        else:
            with torch.no_grad():
                fakes, c, _ = self._fakes("D", part, update_w_avg=True)
        fake, real = self._both_logits(fakes, c, reals[part], real_c[part], part)
        loss = losses.discriminator_loss(fake, real, self.config.loss.kind == "relativistic").mean()
        self.stats.report("Loss/scores/real", real)
        self.stats.report("Loss/signs/real", real.sign())
        with torch.no_grad():
            signs = real.sign().nan_to_num().sum()  # a score that is no number tells p nothing
            self.sign_sum += torch.stack([signs, torch.full_like(real[0], len(real))]).float()
        self.stats.report("Loss/D/loss", loss)
        return loss

    def _penalty_pass(self, part: slice, reals: Tensor, real_c: Tensor) -> Tensor:
        images, c = reals[part], real_c[part]
        if self.config.loss.kind == "relativistic":  # R1 and R2 in one pass
            with torch.no_grad():
                fakes, fake_c, _ = self._fakes("R2", part)
            images, c = torch.cat([images, fakes]), torch.cat([c, fake_c])
        size = part.stop - part.start
        # One pass, unless minibatch groups would mix reals and fakes.
        step = size if size % self.config.discriminator.mbstd_group else len(images)
        penalties = []
        for some, labels in zip(images.split(step), c.split(step), strict=True):
            some = some.detach().requires_grad_(True)
            phase = "R1" if not penalties else "R2/fake"
            penalties.append(losses.gradient_penalty(self._logits(some, labels, phase, part), some))
        r1, *r2 = torch.cat(penalties).split(size)
        self.stats.report("Loss/r1_penalty", r1)
        if r2:
            self.stats.report("Loss/r2_penalty", r2[0])
        regularizer = torch.stack([p.mean() for p in (r1, *r2)]).sum()
        regularizer = regularizer * (self.config.loss.r1_gamma / 2)
        self.stats.report("Loss/D/reg", regularizer)
        return regularizer * self.config.loss.r1_interval

    # ---------------------------------------------------------------------------------------- parts

    def _reals(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Images over the background in [-1, 1].

        Alpha is a fourth channel if the discriminator wants it.
        """
        image = batch["image"].to(self.device).float().div(127.5).sub(1.0)
        if self.config.data.background != "image":
            alpha = batch["alpha"].to(self.device).float().div(255.0)
            colors = self._background("real")[: len(image)]
            image = losses.composite(image, alpha, colors * 2.0 - 1.0)
            if self.config.discriminator.alpha:
                image = torch.cat([image, alpha * 2.0 - 1.0], dim=1)
        return image, batch["label"].to(self.device)

    def _fakes(
        self, phase: str, part: slice, *, regularize: bool = False, update_w_avg: bool = False
    ) -> tuple[Tensor, Tensor, dict[str, tuple[float, Tensor]]]:
        """Images [b, C, S, S] in [-1, 1], their camera labels, and the regularizers."""
        stage = self.stage
        z = self._draw(f"{phase}/z", self.config.generator.z_dim)[part]
        c, c_mapping = (x[part] for x in self._cameras(phase))
        ws = self.G.mapping(z, c_mapping if self.G.c_dim else None, update_w_avg=update_w_avg)
        if self.config.loss.style_mixing > 0:
            ws = self._mix(ws, phase, part, c_mapping)
        noise = generator(
            self.config.seed,
            phase,
            "noise",
            self.step_index,
            self.processes.rank,
            part.start,
            device=self.device,
        )
        raw = self.G.raw_attributes(ws, "random", noise)
        gaussians = self.G.assemble(raw, ws)
        background = self.G.background_image(ws, stage.image_size)
        if background is None:
            background = self._background(phase)[part]
        cameras, with_depth = Cameras.from_label(c[:, None]), regularize and self._needs_depth
        # the head's own depth, as an image behind its alpha
        if with_depth and gaussians.features is not None:
            depth = Cameras.from_label(c).project(gaussians.means)[1][..., None]
            gaussians = replace(
                gaussians,
                features=gaussians.features * torch.cat([torch.ones_like(depth), depth], -1),
            )
        out = self.G.render(
            gaussians,
            cameras,
            stage.image_size,
            background=background,
            uv=regularize and stage.lambda_tv > 0,
            depth=with_depth,
        )
        image = out.color[:, 0] * 2.0 - 1.0
        if self.config.discriminator.alpha:
            image = torch.cat([image, out.alpha[:, 0] * 2.0 - 1.0], dim=1)
        terms = self._regularizers(raw, gaussians, out) if regularize else {}
        if regularize and self.anchor is not None:
            weight = schedule.anchor_weight(self.config.loss, self.nimg)
            terms["anchor"] = weight, self._distance_from_anchor(raw, ws)
        return image, c, terms

    def _regularizers(
        self, raw: dict[str, Tensor], gaussians: Gaussians, out: RenderOutput
    ) -> dict[str, tuple[float, Tensor]]:
        """Name -> weight and value, a scalar, of every regularizer that has a weight."""
        loss, stage = self.config.loss, self.stage
        # the head's; those of a background come after it
        opacities = gaussians.opacities[:, : self.G.attributes.num]
        terms = {}
        if loss.lambda_position > 0:
            terms["position"] = loss.lambda_position, losses.mean_length(raw["position"])
        if loss.lambda_scale > 0:
            terms["scale"] = loss.lambda_scale, losses.mean_length(raw["scale"])
        if stage.lambda_tv > 0:
            assert out.uv is not None  # rendered where it has a weight
            alpha, depth = out.alpha[:, 0], None if out.depth is None else out.depth[:, 0]
            if depth is not None and out.features is not None:
                depth = out.features[:, 0, 1:] / alpha.clamp_min(loss.tv_alpha_floor)
            variation = losses.uv_total_variation(
                out.uv[:, 0],
                alpha,
                depth,
                alpha_floor=loss.tv_alpha_floor,
                depth_edge=loss.tv_depth_edge,
            )
            terms["uv_tv"] = stage.lambda_tv, variation
        if stage.lambda_beta > 0:
            terms["beta"] = stage.lambda_beta, losses.beta_prior(opacities)
        return terms

    def _distance_from_anchor(self, raw: dict[str, Tensor], ws: Tensor) -> Tensor:
        """Mean distance of raw positions and scales from the anchor's for the same styles."""
        assert self.anchor is not None  # the caller's condition
        with torch.no_grad():
            first = self.anchor.raw_attributes(ws.detach(), "none")
        return torch.stack(
            [losses.mean_length(raw[name] - first[name]) for name in ("position", "scale")]
        ).sum()

    def _logits(self, images: Tensor, c: Tensor, phase: str, part: slice) -> Tensor:
        images = losses.gaussian_blur(images, schedule.blur_sigma(self.config.loss, self.seen))
        draws = generator(
            self.config.seed,
            phase,
            "augment",
            self.step_index,
            self.processes.rank,
            part.start,
            device=self.device,
        )
        return self.D(self.augment(images, draws), c, self.fade, self.dtype)

    def _both_logits(
        self, fakes: Tensor, c: Tensor, reals: Tensor, real_c: Tensor, part: slice
    ) -> tuple[Tensor, Tensor]:
        """Scores of fakes and reals.

        In one pass, for larger convolutions, where no minibatch group would mix them.
        """
        if len(fakes) % self.config.discriminator.mbstd_group:
            return self._logits(fakes, c, "D/fake", part), self._logits(
                reals, real_c, "D/real", part
            )
        both = self._logits(torch.cat([fakes, reals]), torch.cat([c, real_c]), "D", part)
        fake_logits, real_logits = both.chunk(2)
        return fake_logits, real_logits

    def _draw(self, purpose: str, *shape: int, uniform: bool = False) -> Tensor:
        """This process's rows of random numbers [batch, *shape], drawn on the CPU for all."""
        source = generator(self.config.seed, purpose, self.step_index)
        draw = torch.rand if uniform else torch.randn
        values = draw(self.config.batch, *shape, generator=source)
        return self._share(values).to(self.device)

    def _share(self, values: Tensor) -> Tensor:
        size = self.config.batch // self.processes.world_size
        return values[self.processes.rank * size : (self.processes.rank + 1) * size]

    def _background(self, phase: str) -> Tensor:  # [b, 3] in [0, 1]
        if self.config.data.background == "random":
            return self._draw(f"{phase}/background", 3, uniform=True)
        return torch.ones(self.config.batch // self.processes.world_size, 3, device=self.device)

    def _cameras(self, phase: str) -> tuple[Tensor, Tensor]:
        """Labels to render with and labels to condition on.

        The latter are swapped with a neighbor at the scheduled rate.
        """
        source = generator(self.config.seed, f"{phase}/cameras", self.step_index)
        index = torch.randint(len(self.labels), (self.config.batch,), generator=source)
        c = self.labels[index.to(self.device)]
        probability = schedule.swap_probability(self.config.loss, self.seen)
        swap = torch.rand(self.config.batch, 1, generator=source).to(self.device) < probability
        return self._share(c), self._share(torch.where(swap, c.roll(1, 0), c))

    def _mix(self, ws: Tensor, phase: str, part: slice, c: Tensor) -> Tensor:
        """Mix styles: later layers take a second latent.

        Karras et al. 2019, "StyleGAN", section 3.1.
        """
        source = generator(self.config.seed, f"{phase}/mixing", self.step_index)
        other = torch.randn(self.config.batch, self.config.generator.z_dim, generator=source)
        cut = torch.randint(1, ws.shape[1], (self.config.batch, 1), generator=source)
        mixed = torch.rand(self.config.batch, 1, generator=source) < self.config.loss.style_mixing
        cut = torch.where(mixed, cut, torch.full_like(cut, ws.shape[1]))
        other, cut = (self._share(x)[part].to(self.device) for x in (other, cut))
        second = self.G.mapping(other, c if self.G.c_dim else None)
        late = torch.arange(ws.shape[1], device=self.device) >= cut
        return torch.where(late[..., None], second, ws)

    @property
    def _needs_depth(self) -> bool:
        return self.config.loss.tv_depth_edge > 0 and self.stage.lambda_tv > 0

    # ---------------------------------------------------------------------------------------- state

    def _apply_stage(self) -> None:
        self.stage, self.fade = schedule.stage_at(self.config.stages, self.nimg)
        if self.anchor is not None and schedule.anchor_weight(self.config.loss, self.nimg) == 0:
            self.anchor = None
        for model in (self.G, self.G_ema, *([] if self.anchor is None else [self.anchor])):
            model.set_grid(self.stage.grid)
            model.config = generator_at(self.config.generator, self.stage)

    @torch.no_grad()
    def _update_ema(self) -> None:
        beta = schedule.ema_beta(self.config.optimizer, self.seen, self.config.batch)
        move_average(self.G_ema, self.G, 1.0 - beta)
        self.G_ema.mapping.w_avg.copy_(self.G.mapping.w_avg)

    def _update_augment(self) -> None:
        total, count = sum_over_processes(self.sign_sum, self.processes).tolist()
        self.sign_sum.zero_()
        self.augment.p = self.ada.update(
            total / count, self.config.augment.interval * self.config.batch
        )

    def state_dict(self) -> dict:
        """Everything that a bit-exact continuation needs, as tensors and plain numbers.

        All processes must call it.

        Signs and statistics are those of all processes: networks and p are the same in all of them.
        """
        return {
            "step": self.step_index,
            "G": self.G.state_dict(),
            "D": self.D.state_dict(),
            "G_ema": self.G_ema.state_dict(),
            "g_optimizer": self.g_optimizer.state_dict(),
            "d_optimizer": self.d_optimizer.state_dict(),
            "augment_p": self.augment.p,
            "ada": self.ada.state_dict(),
            "sign_sum": sum_over_processes(self.sign_sum, self.processes).cpu(),
            "anchor": None if self.anchor is None else self.anchor.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue from ``state_dict``'s result."""
        self.step_index = state["step"]
        self.G.load_state_dict(state["G"])
        self.D.load_state_dict(state["D"])
        self.G_ema.load_state_dict(state["G_ema"])
        for name in ("g_optimizer", "d_optimizer"):
            optimizer: torch.optim.Optimizer = getattr(self, name)
            # the config's: a run that diverged may be given a lower one
            rate = optimizer.param_groups[0]["lr"]
            optimizer.load_state_dict(state[name])
            optimizer.param_groups[0]["lr"] = rate
        self.augment.p = float(state["augment_p"])
        self.ada.load_state_dict(state["ada"])
        if state.get("anchor") is not None:
            self.anchor_shapes()
            assert self.anchor is not None
            self.anchor.load_state_dict(state["anchor"])
        self.sign_sum.zero_()
        if self.processes.is_first:  # it is the sum over all processes
            self.sign_sum.copy_(state["sign_sum"])
        self._apply_stage()


def generator_at(config: GeneratorConfig, stage: Stage) -> GeneratorConfig:
    """The generator's config with the stage's Gaussians and image size.

    A snapshot of that stage records it.
    """
    return replace(config, grid=stage.grid, image_size=stage.image_size)


def build_discriminator(config: TrainConfig) -> Discriminator:
    """The discriminator for all image sizes of the schedule."""
    options = config.discriminator
    return Discriminator(
        tuple(stage.image_size for stage in config.stages),
        channels=4 if options.alpha else 3,
        cbase=options.cbase,
        cmax=options.cmax,
        c_dim=LABEL_DIM if options.cond else 0,
        map_depth=options.map_depth,
        mbstd_group=options.mbstd_group,
    )
