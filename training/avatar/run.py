"""The run around the steps of an avatar: ticks, status, previews, snapshots, resuming."""

import contextlib
import os
from pathlib import Path

import numpy as np
import torch

from gghead import checkpoints
from gghead.animation.blendshapes import names_without_shapes
from gghead.animation.frames import Frames, read_sequence, split_or_all
from gghead.rendering import registry, render
from gghead.template import load_template
from gghead.torch_utils.cli import hint
from gghead.torch_utils.cli_words import in_flags
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.machine import keep_freed_memory
from gghead.torch_utils.progress import progress
from gghead.training.avatar.config import AvatarTrainConfig
from gghead.training.avatar.trainer import AvatarTrainer
from gghead.training.gan import images
from gghead.training.run import run_folder
from gghead.training.run.run_folder import provenance
from gghead.training.run.stats import StatsWriter, Summary
from gghead.training.run.step_run import StepRun

_PREVIEWS = 6  # frames per preview image


def run(
    config: AvatarTrainConfig,
    outdir: str | os.PathLike = "training-runs",
    device: torch.device | str = "cpu",
    *,
    resume: Path | None = None,
) -> Path:
    """Train until ``config.iterations``, or until Ctrl-C, which saves a state to resume from.

    Return the run folder.

    Raises ``UserError`` for data or files that do not fit.
    """
    device = torch.device(device)
    if device.type == "cpu":
        keep_freed_memory()
    with progress(f"Reading {config.data}"):
        sequence = read_sequence(config.data, config.resolution, config.extras, config.coefficients)
    frames = Frames(split_or_all(sequence, "train"), config.cache_mb)
    state = run_folder.load_state(resume) if resume is not None else None
    with progress("Placing the first Gaussians"):
        trainer = AvatarTrainer(config, frames, device, resumed=state is not None)
    if state is not None:
        if state["trainer"]["config"]["width"] != sequence.width:
            raise UserError(
                f"{config.data} has {sequence.width} expression coefficients, but {resume} was"
                f" trained with {state['trainer']['config']['width']}; resume with the data it was"
                " trained on."
            )
        trainer.load_state_dict(state["trainer"])
    parts = ["avatar", config.preset, Path(config.data).stem, "x".join(map(str, frames.size))]
    folder = resume or run_folder.numbered_folder(outdir, parts)
    run_folder.write_options(folder, config)
    trainer.read_ahead()
    with (
        StatsWriter(folder, done=trainer.iteration if state else None) as writer,
        contextlib.closing(trainer),
    ):
        _Run(
            config, folder, trainer, writer, state["seconds"] if state else 0.0, config.iterations
        ).train()
    sequence.close()
    return folder


class _Run(StepRun[AvatarTrainConfig, AvatarTrainer]):
    unit, script = "iteration", "train_avatar.py"
    remedy = (
        "Look for broken frames with scripts/dataset_tool.py check, or start anew with another"
        " `seed`."
    )

    @property
    def done(self) -> int:
        return self.trainer.iteration

    def print_start(self) -> None:
        frames, config = self.trainer.frames, self.trainer.avatar.config
        print(
            f"Data: {self.config.data}: {len(frames)} training frames at"
            f" {frames.size[0]}x{frames.size[1]}, {config.width} coefficients"
            f" ({config.expression_model})"
        )
        if not frames.sequence.has_masks:
            print("  data: no masks, so the avatar learns whatever stands behind the head too")
        for note in frames.sequence.notes:
            print(f"  data: {note}")
        print(f"  loss: {in_flags(self.trainer.loss.description)}")
        print(f"  motion: {self._motion()}")
        print(
            f"Avatar: {self.trainer.avatar.num} Gaussians to start with; rasterizer "
            f"{registry.resolve('auto', self.trainer.device, torch.float32)}"
        )

    def _motion(self) -> str:
        avatar, config = self.trainer.avatar, self.trainer.avatar.config
        if config.motion == "features":
            return "none; colors and opacities follow the expression"
        shapeless = names_without_shapes(
            load_template(self.config.template), config.coefficient_names
        )
        left = [
            name
            for name in shapeless
            if not bool(avatar.reach[config.coefficient_names.index(name)].any())
        ]
        eyes = len(shapeless) - len(left)
        return (
            f"the template's blendshapes for {config.width - len(shapeless)} of {config.width}"
            " coefficients"
            + (f", eyeballs for {eyes}" if eyes else "")
            + (f", none for {', '.join(left)}" if left else "")
        )

    def describe_progress(self) -> str:
        return f"gaussians {self.trainer.avatar.num}"

    def measure(self) -> dict[str, float]:
        return {"Progress/gaussians": self.trainer.avatar.num}

    def describe_losses(self, summary: Summary) -> str:
        return (
            f"gaussians {self.trainer.avatar.num:<7d} loss {summary['Loss/total']['mean']:.5f}  "
            f"l1 {summary['Loss/l1']['mean']:.5f}"
        )

    def write_snapshot(self, folder: Path) -> None:
        checkpoints.save(
            self.trainer.avatar,
            folder / f"avatar-{self.done:06d}.safetensors",
            done=self.done,
            provenance=provenance(self.config.preset, self.config.data),
        )

    def describe_result(self) -> str:
        video = hint("scripts/animate.py", f"--avatar={self.folder}", f"--drive={self.config.data}")
        return f"{self.trainer.avatar.num} Gaussians. Videos: {video}"

    @torch.no_grad()
    def save_preview(self, folder: Path, writer: StatsWriter) -> None:
        """``preview<iteration>.png``: training frames, truth above the avatar."""
        trainer, frames = self.trainer, self.trainer.frames
        chosen = (
            np.linspace(0, len(frames) - 1, min(_PREVIEWS, len(frames)))
            .round()
            .astype(int)
            .tolist()
        )
        truth = torch.stack([frames.over(index) for index in chosen])
        expressions = frames.expression[chosen].to(trainer.device)
        cameras = frames.cameras[chosen].reshape(len(chosen), 1)
        shown = (
            render(trainer.avatar(expressions), cameras, frames.size, background=1.0, depth=False)
            .color[:, 0]
            .cpu()
        )
        sheet = images.save_image_grid(
            torch.cat([truth, shown]) * 2 - 1,
            folder / f"preview{trainer.iteration:06d}.png",
            (len(chosen), 2),
        )
        writer.write_image("preview", sheet, trainer.iteration)
