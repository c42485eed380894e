"""The run around the steps of an avatar: ticks, status, previews, snapshots, resuming."""

import os
import time
from pathlib import Path

import numpy as np
import torch

from gghead import checkpoints
from gghead.animation.frames import Frames, read_sequence, split_or_all
from gghead.rendering import registry, render
from torch_utils import config as config_json
from torch_utils.distributed import Processes
from torch_utils.errors import UserError
from torch_utils.memory import keep_freed_memory
from training import images, run_folder
from training.avatar.config import AvatarTrainConfig
from training.avatar.trainer import AvatarTrainer
from training.console import format_time, memory_use
from training.interrupt import StopRequest
from training.loop import provenance
from training.stats import StatsWriter

_PREVIEWS = 6  # frames per preview picture


def run(config: AvatarTrainConfig, outdir: str | os.PathLike, device: torch.device, *,
        resume: Path | None = None) -> Path:
    """Train until ``config.iterations``, or until Ctrl-C, which saves a state to resume from; return the run folder.

    Raises ``UserError`` for data or files that do not fit.
    """
    if device.type == "cpu":
        keep_freed_memory()
    sequence = read_sequence(config.data, config.resolution, config.extras)
    frames = Frames(split_or_all(sequence, "train"), config.cache_mb)
    state = run_folder.load_state(resume) if resume is not None else None
    trainer = AvatarTrainer(config, frames, device, resumed=state is not None)
    if state is not None:
        if state["trainer"]["config"]["width"] != sequence.width:
            raise UserError(f"{config.data} has {sequence.width} expression coefficients, but {resume} was trained "
                            f"with {state['trainer']['config']['width']}; resume with the data it was trained on.")
        trainer.load_state_dict(state["trainer"])
    parts = ["avatar", config.preset, Path(config.data).stem, "x".join(map(str, frames.size))]
    folder = resume or run_folder.numbered_folder(outdir, parts)
    run_folder.write_options(folder, config)
    with StatsWriter(folder) as writer:
        _Run(config, folder, trainer, writer, state["seconds"] if state else 0.0).train()
    sequence.close()
    return folder


class _Run:
    def __init__(self, config: AvatarTrainConfig, folder: Path, trainer: AvatarTrainer, writer: StatsWriter,
                 seconds: float) -> None:
        self.config, self.folder, self.trainer, self.writer = config, folder, trainer, writer
        self.started = time.time() - seconds

    def train(self) -> None:
        """Steps until the end; a tick's work in between."""
        trainer, total, ticks = self.trainer, self.config.iterations, 0
        self._say_start()
        with StopRequest(Processes(), trainer.device) as stop:
            while trainer.iteration < total:
                first, begin = trainer.iteration, time.time()
                until = min((first // self.config.tick + 1) * self.config.tick, total)
                while trainer.iteration < until and not stop.agreed():
                    trainer.step()
                    self.writer.live(f"iteration {trainer.iteration}/{total}  gaussians {trainer.avatar.num}")
                if stop.agreed():
                    self._save()
                    print(f"Stopped at iteration {trainer.iteration}. "
                          f"Continue with: python scripts/train_avatar.py --resume={self.folder}")
                    raise SystemExit(130)
                self._end_tick(time.time() - begin, trainer.iteration - first)
                ticks = trainer.iteration // self.config.tick
                if trainer.iteration >= total or ticks % self.config.snapshot_ticks == 0:
                    self._save()
                    self._preview()
        print(f"Done: {trainer.iteration} iterations, {trainer.avatar.num} Gaussians. "
              f"Videos: python scripts/animate.py --avatar={self.folder} --drive={self.config.data}")

    def _say_start(self) -> None:
        frames, config = self.trainer.frames, self.trainer.avatar.config
        print(f"Run folder: {self.folder}")
        print(f"Data: {self.config.data}: {len(frames)} training frames at {frames.size[0]}x{frames.size[1]}, "
              f"{config.width} coefficients ({config.expression_model})")
        if not frames.sequence.has_masks:
            print("  data: no masks, so the avatar learns whatever stands behind the head too")
        for note in frames.sequence.notes:
            print(f"  data: {note}")
        print(f"  loss: {self.trainer.loss.description}")
        print(f"Avatar: {self.trainer.avatar.num} Gaussians to start with; rasteriser "
              f"{registry.resolve('auto', self.trainer.device, torch.float32)}")

    def _end_tick(self, seconds: float, count: int) -> None:
        trainer = self.trainer
        per_iteration, memory = seconds / max(count, 1), memory_use(trainer.device)
        trainer.stats.report("Progress/iteration", trainer.iteration)
        trainer.stats.report("Progress/gaussians", trainer.avatar.num)
        trainer.stats.report("Timing/sec_per_iteration", per_iteration)
        for name, value in memory.items():
            trainer.stats.report(f"Resources/{name}_gb", value)
        summary = trainer.stats.collect()
        loss = summary["Loss/total"]["mean"]
        print(f"iteration {trainer.iteration:<7d} gaussians {trainer.avatar.num:<7d} loss {loss:.5f}  "
              f"l1 {summary['Loss/l1']['mean']:.5f}  ms/iteration {per_iteration * 1000:<6.1f} "
              f"time {format_time(time.time() - self.started):<10s} cpumem {memory['cpumem']:.2f}  "
              f"eta {format_time((self.config.iterations - trainer.iteration) * per_iteration)}")
        self.writer.write(summary, trainer.iteration)
        if not np.isfinite(loss):
            raise UserError(f"The loss became {loss} before iteration {trainer.iteration}; resume from the last state "
                            "with lower rates, or look for broken frames with scripts/dataset_tool.py check.")

    def _save(self) -> None:
        """Write avatar and state; a full disk is reported and the run goes on with the files it had."""
        iteration = self.trainer.iteration
        try:
            checkpoints.save_avatar(self.trainer.avatar, self.folder / f"avatar-{iteration:06d}.safetensors",
                                    iteration=iteration, provenance=provenance(self.config.preset, self.config.data))
            run_folder.save_state(self.folder, iteration, {"trainer": self.trainer.state_dict(),
                                                           "seconds": time.time() - self.started})
        except UserError as error:
            print(f"  {error}")

    @torch.no_grad()
    def _preview(self) -> None:
        """``preview<iteration>.png``: training frames, truth above the avatar."""
        trainer, frames = self.trainer, self.trainer.frames
        chosen = np.linspace(0, len(frames) - 1, min(_PREVIEWS, len(frames))).round().astype(int).tolist()
        truth = torch.stack([frames.over(index) for index in chosen])
        expressions = frames.expression[chosen].to(trainer.device)
        cameras = frames.cameras[chosen].reshape(len(chosen), 1)
        shown = render(trainer.avatar(expressions), cameras, frames.size, background=1.0, depth=False).color[:, 0].cpu()
        sheet = images.save_image_grid(torch.cat([truth, shown]) * 2 - 1,
                                       self.folder / f"preview{trainer.iteration:06d}.png", (len(chosen), 2))
        self.writer.write_image("preview", sheet, trainer.iteration)


def read_config(folder: str | os.PathLike, changes: dict) -> AvatarTrainConfig:
    """The config of a run with ``changes`` put over it."""
    return config_json.replace(run_folder.read_options(folder, AvatarTrainConfig), changes)
