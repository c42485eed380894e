"""One step of an expression transformer's training, and everything that an exact resume needs."""

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn

from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.image_metrics import ImageLossConfig, image_loss
from gghead.latent import fingerprints
from gghead.models.expression import ExpressionModel
from gghead.models.reconstructor import Reconstructor
from gghead.rendering import render
from gghead.torch_utils import config as config_json
from gghead.torch_utils.distributed import Processes, average_gradients
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import derive_seed
from gghead.training.expression.config import ExpressionTrainConfig
from gghead.training.expression.data import Lessons, TripletBatch, Triplets
from gghead.training.run.health import Health
from gghead.training.run.moving_average import move_average
from gghead.training.run.precision import PRECISIONS
from gghead.training.run.stats import Stats

# Of maps and basis, as shares of the rate: most numbers of the maps are known from the start.
_PLACED_RATES = 0.1, 1.0
_SCALE_BATCH = 16  # triplets that the unit of the latent loss is taken from


def new_model(
    config: ExpressionTrainConfig, triplets: Triplets, model: Reconstructor
) -> ExpressionModel:
    """The transformer that a run starts from; what depends on data and network is filled in."""
    generator = model.generator
    filled = config_json.replace(
        config.model,
        {
            "coefficient_names": list(triplets.names),
            "expression_model": triplets.captures.format,
            "network": fingerprints(generator)["network"],
            "channels": generator.synthesis.out_channels,
            "side": generator.config.latent_resolution,
            "num_ws": generator.num_ws,
            "w_dim": generator.config.w_dim,
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "init"))
        expression = ExpressionModel(filled)
    tables = triplets.tables()
    expression.coefficient_min.copy_(tables.amin(0).clamp_max(0))
    expression.coefficient_max.copy_(tables.amax(0).clamp_min(0))
    if Lessons.are_possible(generator):
        lessons = Lessons(generator, triplets.names)
        maps = lessons.maps(filled.side, filled.maps)
        expression.network.maps.data[lessons.known, : maps.shape[1]] = maps[lessons.known]
        if config.loss.motion > 0:  # their sliders are learned all the way
            expression.coefficient_max[lessons.known] = expression.coefficient_max[
                lessons.known
            ].clamp_min(1)
    return expression


class ExpressionTrainer:
    """Trains the transformer; the reconstructor and its decoder stay as they are."""

    def __init__(
        self,
        config: ExpressionTrainConfig,
        triplets: Triplets,
        reconstructor: Reconstructor,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config, self.triplets, self.device = config, triplets, torch.device(device)
        self.reconstructor = reconstructor.eval().requires_grad_(False).to(self.device)
        self.reconstructor.dtype = PRECISIONS[config.precision]
        self.step_index, self.stats = 0, Stats()
        self.health = Health(self.stats)
        self.model = new_model(config, triplets, reconstructor).to(self.device).train()
        self.model.dtype = PRECISIONS[config.precision]
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        # Biases, places and norms are not pulled towards zero.
        placed = [self.model.network.maps, self.model.network.basis]
        rest = [p for p in self.model.parameters() if all(p is not other for other in placed)]
        groups = [
            {
                "params": [p for p in rest if (p.ndim > 1) == large],
                "weight_decay": decay,
                "factor": 1.0,
            }
            for large, decay in ((True, config.decay), (False, 0.0))
        ]
        groups += [
            {"params": [p], "weight_decay": 0.0, "factor": factor}
            for p, factor in zip(placed, _PLACED_RATES, strict=True)
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), fused=True)
        self.region = reconstructor.generator.features_of_face()
        self.lessons = None
        if config.loss.motion > 0 and Lessons.are_possible(reconstructor.generator):
            self.lessons = Lessons(reconstructor.generator, triplets.names, self.device)
        if not self.lessons and not triplets.wanted and not config.loss.images > 0:
            raise UserError(
                "There is nothing to learn from: neither latents nor images have a weight, and"
                " the template's blendshapes have none or do not exist."
            )
        # what expressions change in Z and in styles: squared, mean
        self.units: tuple[float, ...] = ()
        if triplets.wanted:
            first = self.triplets.batch(_SCALE_BATCH, 0)
            self.units = tuple(
                float((wanted - start).square().mean().clamp_min(1e-8))
                for start, wanted in ((first.z, first.wanted_z), (first.ws, first.wanted_ws))
                if wanted is not None
            )

    def step(self) -> None:
        """One update."""
        config = self.config
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(derive_seed(config.seed, "dropout", self.step_index))
            # Images from the start where nothing else is compared.
            images = self.step_index >= (
                config.loss.images_from if self.lessons or self.triplets.wanted else 0
            )
            images = images and config.loss.images > 0
            parts = self.terms(
                self.model, self.triplets.batch(config.batch, self.step_index), images
            )
            if self.lessons is not None:
                parts |= self.lesson_terms(self.lessons)
        weights = {
            "latent": config.loss.latent,
            "pixels": config.loss.images,
            "motion": config.loss.motion,
            "looks": config.loss.looks,
        }
        weighted = (weights[name] * part for name, part in parts.items() if name in weights)
        value = sum(weighted, torch.zeros(()))
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        self.health.count(
            "transformer", average_gradients(self.model.parameters(), Processes(), value)
        )
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self._set_rates()
        self.optimizer.step()
        for name, part in {**parts, "total": value}.items():
            self.stats.report(f"Loss/{name}", part)
        self.stats.report("Progress/gradient_norm", norm)
        half_life = min(config.ema_steps, max(self.step_index, 1) * 0.1)
        move_average(self.ema, self.model, 1 - 0.5 ** (1 / max(half_life, 1e-8)))
        self.step_index += 1

    def terms(
        self, model: ExpressionModel, batch: TripletBatch, images: bool = True
    ) -> dict[str, Tensor]:
        """The parts of the loss that are asked for: pixels, and the predicted change.

        The latter is of triplets with the expressions' own latents ``z`` and ``styles``: squared
        errors of the predicted change, 1 where nothing is predicted. ``latent`` is both.
        """
        config, generator, parts = self.config.loss, self.reconstructor.generator, {}
        batch = batch.to(self.device)
        change, styles = model.changes(batch.z, batch.table)
        z, ws = batch.z + change, batch.ws + styles.unflatten(1, batch.ws.shape[1:])
        if batch.wanted_z is not None and batch.wanted_ws is not None:
            parts = {
                name: (now - wanted).square().mean() / unit
                for name, now, wanted, unit in zip(
                    ("z", "styles"),
                    (z, ws),
                    (batch.wanted_z, batch.wanted_ws),
                    self.units,
                    strict=True,
                )
            }
            parts["latent"] = parts["z"] + config.styles * parts["styles"]
        if not images:
            return parts
        heads = generator.attributes.activate(generator.decode(z.to(generator.dtype), ws))
        return {**parts, "pixels": self._image_loss(heads, batch.cameras, batch.target)}

    def lesson_terms(self, lessons: Lessons) -> dict[str, Tensor]:
        """``motion`` and ``looks`` of heads that the template's blendshapes move.

        See ``Lessons.terms``.
        """
        config, generator = self.config, self.reconstructor.generator
        ws, z = (
            part.to(self.device)
            for part in self.triplets.heads(max(config.batch // 2, 1), self.step_index)
        )
        draw = np.random.RandomState(derive_seed(config.seed, "lessons", self.step_index) % 2**32)
        table = lessons.draw(self.triplets.tables(), len(z), draw).to(self.device)
        change, styles = self.model.changes(z, table)
        dtype, attributes = generator.dtype, generator.attributes
        with torch.no_grad():
            heads = attributes.activate(generator.decode(z.to(dtype), ws))
            wanted = lessons.move(heads, table)
        now = attributes.activate(
            generator.decode((z + change).to(dtype), ws + styles.unflatten(1, ws.shape[1:]))
        )
        return lessons.terms(heads, now, wanted, 1 + config.loss.region * self.region)

    # [B, N], [B, T] -> number
    def _image_loss(self, heads: Gaussians, cameras: Cameras, wanted: Tensor) -> Tensor:
        """The image loss of ``heads`` over white, with more weight on eyes and mouth."""
        config = self.config.loss
        if config.region > 0:
            heads.features = self.region.expand(len(heads.means), -1, -1)
        out = render(
            heads,
            cameras,
            wanted.shape[-1],
            background=1.0,
            depth=False,
            features=config.region > 0,
        )
        shown, wanted = out.color.flatten(0, 1), wanted.flatten(0, 1)
        if out.features is not None:
            shown = wanted + (shown - wanted) * (
                1 + config.region * out.features.flatten(0, 1).detach()
            )
        return image_loss(
            shown, wanted, ImageLossConfig(config.l1, config.l2, config.gradient)
        ).mean()

    def _set_rates(self) -> None:
        config, step = self.config, self.step_index + 1
        share = min(step / max(config.steps, 1), 1.0)
        factor = min(step / max(config.warmup, 1), 1.0)
        factor *= config.last + (1 - config.last) * 0.5 * (1 + math.cos(math.pi * share))
        for group in self.optimizer.param_groups:
            group["lr"] = factor * config.rate * group["factor"]

    # -------------------------------------------------------------------- states
    def state_dict(self) -> dict:
        """Plain values and tensors.

        ``load_state_dict`` continues from them, on CPUs bit for bit.
        """
        return {
            "step": self.step_index,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "stats": self.stats.state_dict(),
            "units": list(self.units),
            "network": self.model.config.network,
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue from ``state_dict``'s result."""
        self.step_index, self.units = state["step"], tuple(state["units"])
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.stats.load_state_dict(state["stats"])
