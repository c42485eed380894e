"""One step of an avatar's training, and everything that an exact resume needs."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gghead.animation.blendshapes import has_shapes, template_motion, template_uv
from gghead.animation.eyeballs import eyeballs, has_eyeballs, over_eyes
from gghead.animation.frames import Frames
from gghead.cameras import Cameras
from gghead.data.loader import StepReader
from gghead.models.avatar import Avatar
from gghead.models.avatar_config import AvatarConfig
from gghead.models.motion import split
from gghead.rendering import rasterization
from gghead.template import Template, load_template
from gghead.torch_utils import config as config_json
from gghead.torch_utils.distributed import Processes, average_gradients
from gghead.torch_utils.rng import derive_seed, generator
from gghead.training.avatar.config import AvatarTrainConfig
from gghead.training.avatar.densify import Densifier, Refinement
from gghead.training.avatar.initial import (
    check_in_view,
    copy_appearance,
    initial_head,
    neighbor_distance,
    surface_points,
    thin_out,
)
from gghead.training.avatar.losses import AvatarLoss
from gghead.training.run.health import Health
from gghead.training.run.stats import Stats

_EPS = 1e-15  # of 3DGS's Adam


def new_avatar(
    config: AvatarTrainConfig, frames: Frames, device: torch.device | None = None
) -> Avatar:
    """The avatar that a run starts from; what depends on the data is filled in.

    Raises ``UserError`` for a head to start from that cannot be read, or a number out of its
    range.
    """
    config_json.check_ranges(config)
    sequence, template = frames.sequence, load_template(config.template)
    filled = config_json.replace(
        config.avatar,
        {
            "width": sequence.width,
            "coefficient_names": list(sequence.coefficient_names or ()),
            "expression_model": sequence.format,
            "first": config.coefficients,
            "extras": list(config.extras),
            "image_size": list(frames.size),
            "camera": list(middle_camera(frames.cameras)),
            "motion": _motion(config.motion, template, sequence.coefficient_names or ()),
        },
    )
    balls = None
    if config.init_head is None:
        points = surface_points(template, config.points, config.seed)
        check_in_view(points, Cameras.from_label(torch.tensor(filled.camera)), config.template)
        moves = filled.motion == "blendshapes" and has_eyeballs(template, filled.coefficient_names)
        if moves and config.eyeballs:
            points = points[: config.points - int(config.eyeballs * config.points)]
            points = points[~over_eyes(template, points)]
            balls = eyeballs(
                template, filled.coefficient_names, config.points - len(points), config.seed
            )
            points = torch.cat([points, balls.points])
        avatar = Avatar(filled, points, spacing=neighbor_distance(points), seed=config.seed)
    else:
        head = thin_out(
            initial_head(config.init_head, frames, device or torch.device("cpu")), config.points
        )
        avatar = Avatar(filled, head.means, seed=config.seed)
        copy_appearance(avatar, head)
    if filled.motion == "blendshapes":
        outside = avatar.num - (0 if balls is None else len(balls.points))
        born = template_motion(template, filled.coefficient_names, avatar.means.detach()[:outside])
        if balls is not None:
            born = torch.cat([born, balls.motion], 1)
        avatar.reach.data, avatar.motion.data = split(born)
    if filled.mirrored_grid:
        avatar.anchors.data = template_uv(template, avatar.means.detach())
    avatar.coefficient_min.copy_(frames.expression.amin(0))
    avatar.coefficient_max.copy_(frames.expression.amax(0))
    return avatar


def _motion(asked: str, template: Template, names: tuple[str, ...]) -> str:
    if asked != "auto":
        return asked
    return "blendshapes" if has_shapes(template, names) else "features"


class AvatarTrainer:
    """Trains on one frame per step. Everything random follows from the seed and the iteration."""

    def __init__(
        self,
        config: AvatarTrainConfig,
        frames: Frames,
        device: torch.device,
        *,
        resumed: bool = False,
    ) -> None:
        """``resumed`` says that a state is loaded next.

        Then the head to start from is not needed any more.
        """
        self.config, self.frames, self.device = config, frames, device
        self.iteration = 0
        self.stats = Stats()
        self.health = Health(self.stats)
        self.loss = AvatarLoss(config.loss, device, frames.size)
        self._reader: StepReader | None = None
        start = replace(config, init_head=None) if resumed else config
        self._set_avatar(new_avatar(start, frames, device))

    def _set_avatar(self, avatar: Avatar) -> None:
        self.avatar = avatar.to(self.device).train()
        self.optimizer = make_optimizer(self.avatar, self.config)
        self.densifier = Densifier(
            self.config.densify, avatar.num, self.config.extent, len(self.frames), self.device
        )

    def _frame_at(self, iteration: int) -> int:
        return frame_at(iteration, len(self.frames), self.config.seed)

    def _read(self, iteration: int) -> tuple[Tensor, Tensor]:
        return self.frames.cut(self._frame_at(iteration))

    def read_ahead(self) -> None:
        """Decode the frames of later steps in the background, unless all fit into memory."""
        if not self.frames.in_memory:
            width, height = self.frames.size
            self._reader = StepReader(
                self._read,
                lambda first: range(first, self.config.iterations),
                size=16 * width * height,
            )

    def close(self) -> None:
        """Stop reading ahead."""
        if self._reader is not None:
            self._reader.close()

    # ------------------------------------------------------------------ stepping
    def step(self) -> None:
        """Render a frame, compare, update.

        Refine the set of Gaussians where the schedule says so.
        """
        config, index = self.config, self._frame_at(self.iteration)
        read = self._reader or self._read
        head, alpha = (value.to(self.device) for value in read(self.iteration))
        background = self._background()
        truth = head + background[:, None, None] * (1 - alpha)
        degree = min(self.iteration // config.sh_every, self.avatar.config.sh_degree)
        self._set_rates()
        gaussians = self.avatar(
            self.frames.expression[index : index + 1].to(self.device), sh_degree=degree
        )
        camera, (width, height) = self.frames.camera(index).to(self.device), self.frames.size
        images, _, meta = rasterization(
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            gaussians.colors,
            camera.viewmats[None],
            camera.Ks(width, height)[None],
            width,
            height,
            sh_degree=degree,
            backgrounds=background[None, None],
        )
        means2d = meta["means2d"]
        refining = self.iteration < config.densify.until
        if refining:
            means2d.retain_grad()
        parts = self.loss(images[0, 0].permute(2, 0, 1), truth, alpha, self.iteration)
        self.optimizer.zero_grad(set_to_none=True)
        parts["total"].backward()
        if refining:
            # one bad frame must not decide what grows
            seen = means2d.grad.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
            self.densifier.observe(
                seen.reshape(-1, 2),
                meta["radii"].reshape(-1, 2),
                gaussians.opacities[0].detach(),
                (width, height),
            )
        self.health.count(
            "avatar", average_gradients(self.avatar.parameters(), Processes(), parts["total"])
        )
        self.optimizer.step()
        for name, value in parts.items():
            self.stats.report(f"Loss/{name}", value)
        self.iteration += 1
        if refining:
            self._refine()

    def _background(self) -> Tensor:  # [3]
        if self.config.background == "white":
            return torch.ones(3, device=self.device)
        random = generator(self.config.seed, "background", self.iteration)
        color = torch.rand(3, generator=random)
        if self.config.background == "blackwhite":
            color = (color[:1] > 0.5).float().expand(3)
        return color.to(self.device)

    def _set_rates(self) -> None:
        rates, share = self.config.rates, min(self.iteration / max(self.config.iterations, 1), 1.0)
        for group in self.optimizer.param_groups:
            if group["name"] == "means":
                group["lr"] = self.config.extent * decay_rate(rates.means, rates.means_end, share)
            elif group["name"] == "motion":
                group["lr"] = (
                    decay_rate(rates.motion, rates.motion / 100, share) if rates.motion else 0.0
                )
            elif group["name"].startswith(("hidden", "output")):
                group["lr"] = decay_rate(rates.network, rates.network_end, share)

    def _refine(self) -> None:
        plan, done = self.config.densify, Refinement()
        if self.iteration > plan.start and self.iteration % plan.every == 0:
            random = generator(self.config.seed, "split", self.iteration)
            done = self.densifier.refine(self.avatar, self.optimizer, self.iteration, random)
            for name in ("cloned", "split", "pruned"):
                self.stats.report(f"Densify/{name}", float(getattr(done, name)))

    # -------------------------------------------------------------------- states
    def state_dict(self) -> dict:
        """Plain values and tensors.

        ``load_state_dict`` continues from them, on CPUs bit for bit.
        """
        return {
            "iteration": self.iteration,
            "avatar": {
                name: value.detach().clone() for name, value in self.avatar.state_dict().items()
            },
            "config": config_json.to_dict(self.avatar.config),
            "optimizer": self.optimizer.state_dict(),
            "densifier": self.densifier.state_dict(),
            "stats": self.stats.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        config = config_json.from_dict(
            AvatarConfig, state["config"], "the avatar of the training state"
        )
        avatar = Avatar(config, count=len(state["avatar"]["means"]))
        avatar.load_state_dict(state["avatar"])
        self._set_avatar(avatar)
        self.optimizer.load_state_dict(state["optimizer"])
        self.densifier.load_state_dict(state["densifier"])
        self.stats.load_state_dict(state["stats"])
        self.iteration = state["iteration"]


def decay_rate(first: float, last: float, share: float) -> float:
    """Exponential decay from ``first`` to ``last`` as ``share`` goes from 0 to 1."""
    return math.exp((1 - share) * math.log(first) + share * math.log(last))


def make_optimizer(avatar: Avatar, config: AvatarTrainConfig) -> torch.optim.Adam:
    """Adam with one named group per parameter, so that a group's parameter can be exchanged."""
    rates = config.rates
    table = {
        "means": rates.means * config.extent,
        "log_scales": rates.scales,
        "quats": rates.quats,
        "basis": rates.features,
        "bias": rates.features,
        "static": rates.features,
        "grid.values": rates.features,
        "motion": rates.motion,
    }
    groups = [
        {"params": [parameter], "name": name, "lr": table.get(name, rates.network)}
        for name, parameter in avatar.named_parameters()
        if parameter.numel() and parameter.requires_grad
    ]
    # Fused: one pass over the basis instead of six, which is most of a step on a CPU.
    return torch.optim.Adam(groups, eps=_EPS, fused=True)


def frame_at(iteration: int, count: int, seed: int) -> int:
    """Which of ``count`` frames an iteration shows.

    Every pass goes through all of them in another order.
    """
    epoch, place = divmod(iteration, count)
    order = np.random.RandomState(derive_seed(seed, "order", epoch) % 2**32).permutation(count)
    return int(order[place])


def middle_camera(cameras: Cameras) -> tuple[float, ...]:
    """The label [25 numbers] of the camera nearest to the mean direction of all of them."""
    forward = cameras.cam2world[:, :3, 2]
    mean = forward.mean(0)
    index = int((forward @ mean).argmax())
    return tuple(float(value) for value in cameras[index].label())
