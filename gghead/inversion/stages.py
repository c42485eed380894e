"""Inversion in stages: w, then w+, then a residual on Z, then pivotal tuning of the decoder.

Cameras along the way.

w: one style for all layers, projected as Karras et al. 2020 ("Analyzing and improving the image
quality of StyleGAN", appendix D) do, with fading noise on w; the start is the best of some random
heads. w+: one style per layer (Abdal et al. 2019, "Image2StyleGAN"), held near the w found. z: what
styles cannot say is added to Z itself, the feature map where the generator is cut. pti: Roich et
al. 2021 ("Pivotal tuning for latent-based editing of real images") change the weights around the
pivot; here those of the decoder alone, because below the cut Z is free already, so a file stays
small. Noise images stay as trained: Z's residual says all that they could.

encoder: a network that has one (a reconstructor) is asked first, and w+ or z start from its answer;
w is left out.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.image_metrics import image_loss, psnr, ssim
from gghead.inversion.cameras import CameraRefinement, cameras_of, turn_cameras
from gghead.inversion.config import InversionConfig
from gghead.inversion.objective import Objective, draw, nonfinite
from gghead.inversion.targets import Target
from gghead.latent import Latent
from gghead.latent_stages import OPTIMIZED
from gghead.models.generator import Generator
from gghead.models.reconstructor import Reconstructor
from gghead.perceptual import Distance
from gghead.torch_utils import rng, threads
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress

_FRAMES = 15  # images of each stage in the video
# StyleGAN2's projector: noise on w, in its deviations, gone at 3/4 of the stage
_NOISE, _NOISE_ENDS = 0.05, 0.75
_RAMP_UP, _RAMP_DOWN = 0.05, 0.3  # shares of a stage in which the learning rate rises and falls

# what is optimized, and what it stands for at a share of the steps: latents [B], their prior [B]
_Stage = tuple[list[Tensor], Callable[[float], tuple[Latent, Tensor]]]


@dataclass(frozen=True, eq=False)
class StageResult:
    """A batch of B images after one stage."""

    stage: str
    latent: Latent
    """As read back from a file, cameras included."""
    color: Tensor
    """[B, 3, S, S] in [0, 1], rendered from it."""
    wanted: Tensor
    """[B, 3, S, S], what was to be matched."""
    metrics: list[dict[str, float]]
    """psnr, ssim, loss and, with a mask, psnr_mask and ssim_mask, of every image; what else is
    reported (lpips)."""
    frames: np.ndarray
    """uint8 [T, B, S, S, 3], the optimization."""
    stopped: dict[int, str]
    """Image -> stage and step at which its loss was no longer finite; its latent is that of the
    step before."""


class Inversion:
    """Inverts a batch of images at once.

    Each result depends on its own image only, up to rounding.

    Args:
        model: The generator; it is not changed.
        targets: Images at the size that the network was trained for, all with a mask or all
            without.
        config: See ``InversionConfig``.
        perceptual: A distance to add to the objective, with its weight; without one there is no
            such term.
        reported: Networks whose numbers are reported, by the name of the metric: lpips, identity.
        encoder: The reconstructor that ``model`` is the generator of, where ``config.encoder`` is
            set.
    """

    def __init__(
        self,
        model: Generator,
        targets: Sequence[Target],
        config: InversionConfig,
        perceptual: Distance | None = None,
        reported: Mapping[str, Distance] | None = None,
        encoder: Reconstructor | None = None,
    ) -> None:
        self.model, self.targets, self.config, self.reported = (
            model,
            list(targets),
            config,
            dict(reported or {}),
        )
        self.encoder = encoder
        if config.encoder and encoder is None:
            raise UserError(
                "To start from an encoder, name a network that has one (scripts/train_encoder.py)."
            )
        device, size = model.device, model.config.image_size
        for target in targets:
            if target.rgb.shape != (3, size, size):
                raise ValueError(
                    f"{target.name} is {list(target.rgb.shape)}, but this network needs "
                    f"[3, {size}, {size}]."
                )
        rgb = torch.stack([target.rgb for target in targets]).to(device).float() / 255
        masks = [target.mask for target in targets if target.mask is not None]
        if masks and len(masks) < len(targets):
            raise ValueError("Images with and without masks must be inverted in different batches.")
        self.mask = torch.stack(masks).to(device).float() / 255 if masks else None
        self.objective = Objective(model, rgb, self.mask, config.objective, perceptual)
        for distance in (perceptual, *self.reported.values()):
            if distance is not None:
                distance.check_size(size, size)
        self.refinement = CameraRefinement(
            torch.stack([target.label for target in targets]).to(device),
            math.radians(config.max_rotation),
            config.max_shift,
        )
        self.w_avg = model.mapping.w_avg.detach()
        self.w_std = self._w_deviation()
        self.stopped: dict[int, str] = {}
        self._reference: tuple[Latent, Gaussians] | None = None

    def run(self) -> Iterator[StageResult]:
        """Yield the result of every stage, in order.

        An image whose loss is no longer finite stays where it was.
        """
        latent = None
        for stage in self.config.stages:
            if stage == "encoder":
                with torch.no_grad():
                    latent = self._encode()
                    self._reference = latent, self._heads(latent)
                    result = self._judge(stage, latent, np.zeros(0, np.uint8))
                yield replace(result, frames=_bytes(result.color)[None])
                continue
            number = OPTIMIZED.index(stage)
            steps = self.config.steps[number]
            with progress(f"Stage {stage}", steps, "steps") as bar:
                parameters, build = getattr(self, f"_stage_{stage.replace('+', 'plus')}")(latent)
                frames = self._optimize(
                    parameters, build, steps, self.config.lr[number], stage, bar.update
                )
            with torch.no_grad():
                latent = build(1.0)[0].map(Tensor.detach).to_file_precision()
                latent = replace(latent, camera=self.refinement.cameras().label().detach())
                result = self._judge(stage, latent, frames)
                if stage == "w+":
                    self._reference = latent, self._heads(latent)
            yield result

    # ------------------------------------------------------------------ stages
    def _encode(self) -> Latent:
        assert self.encoder is not None
        cameras = self.refinement.cameras()
        latent = self.encoder.encode(
            self.objective.target[:, None], cameras.reshape(len(self.targets), 1)
        ).to_file_precision()
        return replace(latent, camera=cameras.label())

    def _stage_w(self, _: None) -> _Stage:
        raw = self._start().requires_grad_(True)
        noises = self._generators("w-noise")

        def build(fraction: float) -> tuple[Latent, Tensor]:
            strength = _NOISE * max(0.0, 1 - fraction / _NOISE_ENDS) ** 2
            noise = torch.cat(
                [torch.randn(1, raw.shape[1], generator=noise) for noise in noises]
            ).to(raw.device)
            w = self.w_avg + self.w_std * (raw + strength * noise)
            return Latent(
                w[:, None].repeat(1, self.model.num_ws, 1)
            ), self.config.prior_w * raw.square().mean(1)

        return [raw], build

    def _stage_wplus(self, before: Latent) -> _Stage:
        raw = torch.zeros_like(before.ws).requires_grad_(True)

        def build(_: float) -> tuple[Latent, Tensor]:
            ws = before.ws + self.w_std * raw
            far = ((ws - self.w_avg) / self.w_std).square().mean((1, 2))
            return (
                Latent(ws),
                self.config.prior_wplus * raw.square().mean((1, 2)) + self.config.prior_w * far,
            )

        return [raw], build

    def _stage_z(self, before: Latent) -> _Stage:
        with torch.no_grad():
            z = self.model.latent(before.ws).float()
        deviation = z.square().mean((2, 3), keepdim=True).sqrt()  # [B, C, 1, 1]
        start = torch.zeros_like(z) if before.residual is None else before.residual / deviation
        raw = start.clone().requires_grad_(True)

        def build(_: float) -> tuple[Latent, Tensor]:
            latent = Latent(before.ws, deviation * raw)
            return latent, self.config.prior_z * (raw - start).square().mean((1, 2, 3))

        return [raw], build

    def _stage_pti(self, before: Latent) -> _Stage:
        own = dict(self.model.decoder.named_parameters())
        delta = {
            name: value.new_zeros(len(self.targets), *value.shape).requires_grad_(True)
            for name, value in own.items()
        }
        count = sum(value.numel() for value in own.values())
        nearby = self._generators("locality")

        def build(_: float) -> tuple[Latent, Tensor]:
            latent = replace(before, delta=delta)
            changes = (value.square().reshape(len(value), -1).sum(1) for value in delta.values())
            prior = self.config.prior_pti * (functools.reduce(torch.add, changes) / count)
            if self.config.locality > 0:
                prior = prior + self.config.locality * self._unlike_nearby(latent, nearby)
            return latent, prior

        return list(delta.values()), build

    def _generators(self, stream: str) -> list[torch.Generator]:
        """One for each image, by its name, so that a result does not depend on the batch."""
        return [rng.generator(self.config.seed, stream, target.name) for target in self.targets]

    # -------------------------------------------------------------- optimizing
    def _optimize(
        self,
        parameters: list[Tensor],
        build: Callable[[float], tuple[Latent, Tensor]],
        steps: int,
        # -> uint8 [T, B, S, S, 3]
        rate: float,
        stage: str,
        say: Callable[[int], None],
    ) -> np.ndarray:
        """Adam on the sum of the images' losses.

        Adam works on every number alone, so images stay independent.

        The parameters end at the best state that was met, image by image: of the last quarter,
        in which the noise on w is gone, or the start, so that a stage never ends worse than the one
        before it.
        """
        camera, guarded = self.refinement.raw, stage in ("z", "pti") and self.config.novel_views > 0
        moving = stage != "pti" and camera.requires_grad
        optimized = [*parameters, camera] if moving else list(parameters)
        adam = torch.optim.Adam(
            [{"params": parameters, "base": rate}]
            + ([{"params": [camera], "base": self.config.lr_camera}] if moving else []),
            betas=(0.9, 0.99),
        )
        sides = self._generators("sides")
        shown_at = set(np.linspace(0, steps, min(_FRAMES, steps + 1)).round().astype(int).tolist())
        frames, good, best = [], _copies(optimized), _copies(optimized)
        lowest = torch.full((len(self.targets),), torch.inf, device=camera.device)
        # The last one only looks at where the one before it went.
        for step in threads.steps(range(steps + 1), stage, camera.device):
            say(step)
            for group in adam.param_groups:
                group["lr"] = group["base"] * ramp(step / steps)
            latent, prior = build(step / steps)
            cameras = self.refinement.cameras() if moving else self._fixed_cameras()
            color, own, aside = self._losses(latent, cameras, sides if guarded else None)
            adam.zero_grad(set_to_none=True)
            # nothing of it is added to the model's gradients
            (own + prior + aside).sum().backward(inputs=optimized)
            loss = (own + prior).detach()
            gradients = [value.grad for value in optimized if value.grad is not None]
            for index in nonfinite(loss, gradients).nonzero()[:, 0].tolist():
                self.stopped.setdefault(index, f"step {step} of stage {stage}")
            frozen = torch.tensor(sorted(self.stopped), dtype=torch.long, device=camera.device)
            with torch.no_grad():
                better = loss < lowest
                better[frozen] = False
                if step / steps >= _NOISE_ENDS or (step == 0 and stage != "w"):
                    lowest = torch.where(better, loss, lowest)
                    for value, kept in zip(optimized, best, strict=True):
                        kept[better] = value[better]
                for value, kept in zip(optimized, good, strict=True):
                    value[frozen] = kept[frozen]  # the last state whose loss was finite
                    kept.copy_(value)
                if step < steps:
                    adam.step()
                for value, kept in zip(optimized, good, strict=True):
                    value[frozen] = kept[frozen]
            if step in shown_at:
                frames.append(_bytes(color))
        with torch.no_grad():
            found = lowest.isfinite()
            for value, kept in zip(optimized, best, strict=True):
                value[found] = kept[found]
        return np.stack(frames)

    def _losses(
        self, latent: Latent, cameras: Cameras, sides: list[torch.Generator] | None
    ) -> tuple[Tensor, Tensor, Tensor | float]:
        """Return the rendered images and their losses.

        With ``sides`` also those against the reference from aside.
        """
        heads, count = self._heads(latent), len(self.targets)
        front = cameras.reshape(count, 1)
        if sides is None:
            out = draw(self.model, heads, latent.ws, front)
            return out.color[:, 0], self.objective(out.color[:, 0], out.alpha[:, 0]), 0.0
        yaws = [float(torch.rand(1, generator=side)) * 70 - 35 for side in sides]
        # (B, 1)
        aside = Cameras.cat([turn_cameras(cameras[b : b + 1], [yaw]) for b, yaw in enumerate(yaws)])
        both = Cameras(
            torch.cat([front.cam2world, aside.cam2world.detach()], 1),
            torch.cat([front.intrinsics, aside.intrinsics], 1),
        )
        out = draw(self.model, heads, latent.ws, both)
        assert self._reference is not None
        reference, reference_heads = self._reference
        with torch.no_grad():
            wanted = draw(self.model, reference_heads, reference.ws, aside).color[:, 0]
        unlike = image_loss(out.color[:, 1], wanted, self.config.objective)
        return (
            out.color[:, 0],
            self.objective(out.color[:, 0], out.alpha[:, 0]),
            self.config.novel_views * unlike,
        )

    def _heads(self, latent: Latent) -> Gaussians:
        return latent.gaussians(self.model)

    def _fixed_cameras(self) -> Cameras:
        with torch.no_grad():
            return self.refinement.cameras()

    def _unlike_nearby(self, latent: Latent, nearby: list[torch.Generator]) -> Tensor:  # [B]
        """How the tuned decoder draws a head near the pivot, against the untuned one.

        Roich et al., equation 4.
        """
        z = torch.cat(
            [torch.randn(1, self.model.z_dim, generator=generator) for generator in nearby]
        )
        label = self.model.neutral_label()
        with torch.no_grad():
            far = self.model.mapping(
                z.to(self.model.device), None if label is None else label.expand(len(z), -1)
            )
            step = far - latent.ws
            # half the usual distance from the average
            reach = 0.5 * self.w_std * math.sqrt(step.shape[-1])
            near = Latent(latent.ws + reach * step / step.norm(dim=2, keepdim=True).clamp_min(1e-6))
            cameras = self._fixed_cameras().reshape(len(z), 1)
            wanted = draw(self.model, self._heads(near), near.ws, cameras).color[:, 0]
        shown = draw(
            self.model, self._heads(replace(near, delta=latent.delta)), near.ws, cameras
        ).color[:, 0]
        return image_loss(shown, wanted, self.config.objective)

    # ------------------------------------------------------------------- start
    @torch.no_grad()
    def _w_deviation(self, count: int = 1024) -> float:
        """Root mean square of w - w_avg over heads and dimensions."""
        return float(
            (self._random_w(count, "w-deviation") - self.w_avg)
            .square()
            .mean()
            .sqrt()
            .clamp_min(1e-8)
        )

    def _random_w(self, count: int, stream: str) -> Tensor:  # [count, w_dim]
        z = torch.randn(count, self.model.z_dim, generator=rng.generator(self.config.seed, stream))
        label = self.model.neutral_label()
        return self.model.mapping(
            z.to(self.model.device), None if label is None else label.expand(count, -1)
        )[:, 0]

    @torch.no_grad()
    def _start(self) -> Tensor:  # [B, w_dim] in deviations from w_avg
        """Choose the best start of every image.

        The average head and ``candidates`` random ones, truncated to 0.7, compete.
        """
        candidates = self.w_avg.lerp(self._random_w(self.config.candidates, "candidates"), 0.7)
        candidates = (
            torch.cat([self.w_avg[None], candidates]) if len(candidates) else self.w_avg[None]
        )
        cameras, losses = self._fixed_cameras(), []
        for w in candidates:
            ws = w.expand(1, self.model.num_ws, -1)
            # one head before all cameras
            out = draw(self.model, self.model.gaussians(ws), ws, cameras)
            losses.append(self.objective(out.color[0], out.alpha[0]))
        best = torch.stack(losses).nan_to_num(torch.inf).argmin(0)
        return (candidates[best] - self.w_avg) / self.w_std

    def _judge(self, stage: str, latent: Latent, frames: np.ndarray) -> StageResult:
        cameras = cameras_of(latent).reshape(len(latent), 1)
        out = draw(self.model, self._heads(latent), latent.ws, cameras)
        color, wanted = out.color[:, 0], self.objective.target
        values = {
            "psnr": psnr(color, wanted),
            "ssim": ssim(color, wanted),
            "loss": self.objective(color, out.alpha[:, 0]),
        }
        if self.mask is not None:
            values |= {
                "psnr_mask": psnr(color, wanted, self.mask),
                "ssim_mask": ssim(color, wanted, self.mask),
            }
        for name, network in self.reported.items():
            values[name] = network(color.clamp(0, 1) * 2 - 1, wanted * 2 - 1)
        metrics = [
            {name: round(float(value[b]), 5) for name, value in values.items()}
            for b in range(len(latent))
        ]
        return StageResult(
            stage, latent, color.clamp(0, 1), wanted, metrics, frames, dict(self.stopped)
        )


def ramp(fraction: float) -> float:
    """Linear at the start, a cosine at the end (StyleGAN2's projector)."""
    down = min(1.0, (1.0 - fraction) / _RAMP_DOWN)
    return (0.5 - 0.5 * math.cos(down * math.pi)) * min(1.0, (fraction + 1e-3) / _RAMP_UP)


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _bytes(color: Tensor) -> np.ndarray:  # [B, 3, H, W] in [0, 1] -> uint8 [B, H, W, 3]
    images = (color.detach().nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
    return images.movedim(1, -1).cpu().numpy()
