"""The run around the steps of a prior: ticks, status, previews, snapshots, resuming."""

import os
import time
from pathlib import Path

import numpy as np
import torch

import gghead
from gghead import checkpoints
from gghead.models.generator import Generator
from torch_utils import config as config_json
from torch_utils.distributed import Processes
from torch_utils.errors import UserError
from torch_utils.memory import keep_freed_memory
from training import run_folder
from training.console import format_time, memory_use
from training.interrupt import StopRequest
from training.loop import provenance
from training.prior.config import PriorTrainConfig
from training.prior.data import Heads, conditions, open_heads, split
from training.prior.trainer import PriorTrainer, new_prior
from training.stats import StatsWriter

_PREVIEWS = 8  # heads per preview picture


def open_data(config: PriorTrainConfig, model: Generator) -> tuple[Heads, Heads]:
    """Training and held-out heads of a run."""
    heads = open_heads(model, config.latents, config.samples)
    train, aside = split(len(heads), config.holdout, config.seed)
    return heads[train], heads[aside]


def run(config: PriorTrainConfig, outdir: str | os.PathLike, device: torch.device, *,
        resume: Path | None = None) -> Path:
    """Train until ``config.steps``, or until Ctrl-C, which saves a state to resume from; return the run folder.

    Raises ``UserError`` for latents or files that do not fit.
    """
    if device.type == "cpu":
        keep_freed_memory()
    model = gghead.load(config.network, device=device, kind="generator")
    heads, held_out = open_data(config, model)
    cond, held_out_cond = (conditions(config.cond, part.names) for part in (heads, held_out))
    prior = new_prior(config, model, heads, cond)
    state = run_folder.load_state(resume) if resume is not None else None
    if state is not None:
        _check_same(prior, state["trainer"]["prior"], resume)
        prior.load_state_dict(state["trainer"]["prior"])  # the heads are encoded by the statistics they were
    trainer = PriorTrainer(config, prior, heads, held_out if len(held_out) else None, cond, held_out_cond, device)
    if state is not None:
        trainer.load_state_dict(state["trainer"])
    source = Path(config.latents.split(",")[0]).stem if config.latents else "samples"
    folder = resume or run_folder.numbered_folder(outdir, ["prior", config.preset, source])
    run_folder.write_options(folder, config)
    with StatsWriter(folder) as writer:
        seconds = state["seconds"] if state else 0.0
        _Run(config, folder, model, trainer, writer, seconds).train(len(heads), len(held_out))
    return folder


def _check_same(prior, state: dict, resume: Path) -> None:
    """The data must be what it was: the statistics say so (bases may turn with the rounding of another machine)."""
    for name, value in prior.state_dict().items():
        if name.startswith(("tokens.", "cond_")):
            old, turns = state.get(name), name.endswith("_basis")
            same = old is not None and old.shape == value.shape
            if not same or not (turns or torch.allclose(old, value.cpu(), rtol=1e-3, atol=1e-4)):
                raise UserError(f"The latents are not those that {resume} was trained on; put them back, or start a "
                                "new run.")


class _Run:
    def __init__(self, config: PriorTrainConfig, folder: Path, model: Generator, trainer: PriorTrainer,
                 writer: StatsWriter, seconds: float) -> None:
        self.config, self.folder, self.model, self.trainer, self.writer = config, folder, model, trainer, writer
        self.started = time.time() - seconds

    def train(self, heads: int, held_out: int) -> None:
        """Steps until the end; a tick's work in between."""
        trainer, total = self.trainer, self.config.steps
        self._say_start(heads, held_out)
        with StopRequest(Processes(), trainer.device) as stop:
            while trainer.step_number < total:
                first, begin = trainer.step_number, time.time()
                until = min((first // self.config.tick + 1) * self.config.tick, total)
                while trainer.step_number < until and not stop.agreed():
                    trainer.step()
                    self.writer.live(f"step {trainer.step_number}/{total}")
                if stop.agreed():
                    self._save()
                    print(f"Stopped at step {trainer.step_number}. "
                          f"Continue with: python scripts/train_prior.py --resume={self.folder}")
                    raise SystemExit(130)
                self._end_tick(time.time() - begin, trainer.step_number - first)
                ticks = trainer.step_number // self.config.tick
                if trainer.step_number >= total or ticks % self.config.snapshot_ticks == 0:
                    self._save()
                    self._preview()
        print(f"Done: {trainer.step_number} steps. Heads: python gen_samples.py --network={self.config.network} "
              f"--prior={self.folder} --seeds=0-7\n"
              f"Are they new? python scripts/score_prior.py --prior={self.folder}")

    def _say_start(self, heads: int, held_out: int) -> None:
        config, shape = self.config, self.trainer.prior.config.tokens
        sources = [config.latents] * bool(config.latents) + [f"{config.samples} samples"] * bool(config.samples)
        print(f"Run folder: {self.folder}")
        print(f"Latents of {config.network}: {heads} heads ({' and '.join(sources)}), and {held_out} held out")
        same = "" if shape.rows > 1 else ", the same for all layers"
        print(f"Tokens: {shape.rows} style{'s'[: shape.rows > 1]} of {shape.w_components} components{same}" +
              (f"; {shape.patches} patches of {shape.patch}x{shape.patch} with {shape.z_components} of "
               f"{shape.channels} channels" if shape.channels else "; no residual on Z"))
        parameters = sum(value.numel() for value in self.trainer.prior.flow.parameters())
        cond = f"conditions of {self.trainer.prior.config.cond_dim} numbers" if config.cond else "no condition"
        print(f"Flow: {parameters / 1e6:.1f} M parameters, {cond}")
        if not held_out:
            print("  data: no head is held out, so nothing will tell learning from learning by heart")

    def _end_tick(self, seconds: float, count: int) -> None:
        trainer = self.trainer
        per_step, memory, losses = seconds / max(count, 1), memory_use(trainer.device), trainer.check()
        trainer.stats.report("Progress/step", trainer.step_number)
        trainer.stats.report("Timing/sec_per_step", per_step)
        for name, value in losses.items():
            trainer.stats.report(f"Check/{name}", value)
        for name, value in memory.items():
            trainer.stats.report(f"Resources/{name}_gb", value)
        summary = trainer.stats.collect()
        loss = summary["Loss/total"]["mean"]
        print(f"step {trainer.step_number:<7d} loss {loss:.4f}  " +
              "  ".join(f"{name} {value:.4f}" for name, value in losses.items()) +
              f"  ms/step {per_step * 1000:<6.1f} time {format_time(time.time() - self.started):<10s} "
              f"cpumem {memory['cpumem']:.2f}  eta {format_time((self.config.steps - trainer.step_number) * per_step)}")
        self.writer.write(summary, trainer.step_number)
        if not np.isfinite(loss):
            raise UserError(f"The loss became {loss} before step {trainer.step_number}; resume from the last state "
                            "with a lower --lr.")

    def _save(self) -> None:
        """Write prior and state; a full disk is reported and the run goes on with the files it had."""
        step = self.trainer.step_number
        try:
            data = self.config.latents or f"{self.config.samples} samples"
            checkpoints.save_prior(self.trainer.average, self.folder / f"prior-{step:06d}.safetensors", step=step,
                                   provenance=provenance(self.config.preset, data))
            run_folder.save_state(self.folder, step, {"trainer": self.trainer.state_dict(),
                                                      "seconds": time.time() - self.started})
        except UserError as error:
            print(f"  {error}")

    def _preview(self) -> None:
        """``preview<step>.png``: heads of the seeds 0, 1, …, without condition."""
        from gghead.cli.gen_samples import draw_latent
        from gghead.sheets import beside, write_png

        pictures = [draw_latent(self.model, self.trainer.average.sample(seed), "", yaws=(0.0,)).image
                    for seed in range(_PREVIEWS)]
        sheet = beside(pictures)
        write_png(self.folder / f"preview{self.trainer.step_number:06d}.png", sheet)
        self.writer.write_image("preview", sheet, self.trainer.step_number)


def read_config(folder: str | os.PathLike, changes: dict) -> PriorTrainConfig:
    """The config of a run with ``changes`` put over it."""
    return config_json.replace(run_folder.read_options(folder, PriorTrainConfig), changes)
