"""The run around the steps of an expression transformer: ticks, status, held-out scores, snapshots, resuming."""

import os
import time
from pathlib import Path

import numpy as np
import torch

from gghead import checkpoints
from gghead.models.reconstructor import Reconstructor
from torch_utils import config as config_json
from torch_utils.distributed import Processes
from torch_utils.errors import UserError
from torch_utils.memory import keep_freed_memory
from training import run_folder
from training.console import format_time, memory_use
from training.encoder.data import read_captures
from training.expression.config import ExpressionTrainConfig, check
from training.expression.data import TripletBatch, Triplets
from training.expression.trainer import ExpressionTrainer
from training.interrupt import StopRequest
from training.loop import provenance
from training.stats import StatsWriter

_HELD_OUT = 12  # triplets that are looked at with every snapshot


def run(config: ExpressionTrainConfig, outdir: str | os.PathLike, device: torch.device, *,
        resume: Path | None = None) -> Path:
    """Train until ``config.steps``, or until Ctrl-C, which saves a state to resume from; return the run folder.

    Raises ``UserError`` for data, networks or files that do not fit.
    """
    check(config)
    if device.type == "cpu":
        keep_freed_memory()
    state = run_folder.load_state(resume) if resume is not None else None
    network: Reconstructor = checkpoints.load(config.network, device, kind="reconstructor")
    captures, size = read_captures(config.data.path), network.generator.config.image_size
    trainer = ExpressionTrainer(config, Triplets(captures, config.data, size, network, config.seed), network, device)
    if state is not None:
        if state["trainer"]["network"] != trainer.model.config.network:
            raise UserError(f"{resume} was trained with another snapshot of {config.network}; "
                            "name that file itself with --network.")
        trainer.load_state_dict(state["trainer"])
    held_out = None
    if config.data.holdout:
        options = config_json.replace(config.data, {"holdout": [], "mirror": False, "subsets": 1})
        held_out = Triplets(captures.select(subjects=config.data.holdout), options, size, network, config.seed)
    folder = resume or run_folder.numbered_folder(outdir, ["expression", config.preset, Path(config.data.path).stem])
    run_folder.write_options(folder, config)
    with StatsWriter(folder) as writer:
        _Run(config, folder, trainer, held_out, writer, state["seconds"] if state else 0.0).train()
    return folder


class _Run:
    def __init__(self, config: ExpressionTrainConfig, folder: Path, trainer: ExpressionTrainer,
                 held_out: Triplets | None, writer: StatsWriter, seconds: float) -> None:
        self.config, self.folder, self.trainer, self.writer = config, folder, trainer, writer
        self.held_out, self.started = held_out, time.time() - seconds

    def train(self) -> None:
        """Steps until the end; a tick's work in between."""
        trainer, total = self.trainer, self.config.steps
        self._say_start()
        with StopRequest(Processes(), trainer.device) as stop:
            while trainer.step_index < total:
                first, begin = trainer.step_index, time.time()
                until = min((first // self.config.tick + 1) * self.config.tick, total)
                while trainer.step_index < until and not stop.agreed():
                    trainer.step()
                    self.writer.live(f"step {trainer.step_index}/{total}")
                if stop.agreed():
                    self._save()
                    print(f"Stopped at step {trainer.step_index}. "
                          f"Continue with: python scripts/train_expression.py --resume={self.folder}")
                    raise SystemExit(130)
                self._end_tick(time.time() - begin, trainer.step_index - first)
                ticks = trainer.step_index // self.config.tick
                if trainer.step_index >= total or ticks % self.config.snapshot_ticks == 0:
                    self._save()
                    self._judge()
        print(f"Done: {trainer.step_index} steps. Scores: python scripts/score_expression.py "
              f"--network={self.config.network} --motion={self.folder} --data={self.config.data.path}")

    def _say_start(self) -> None:
        triplets, trainer = self.trainer.triplets, self.trainer
        print(f"Run folder: {self.folder}")
        print(f"Data: {self.config.data.path}: {len(triplets.pairs)} triplets, {len(triplets.names)} coefficients; "
              f"held out: {', '.join(self.config.data.holdout) or 'none'}")
        if self.config.data.mirror and not triplets.mirrors:
            print("  data: not mirrored, because not every coefficient has a name for its other side")
        millions = sum(p.numel() for p in trainer.model.parameters()) / 1e6
        print(f"Expression transformer: {millions:.2f} M parameters, for latents of {self.config.network} "
              f"({trainer.model.config.network})")

    def _end_tick(self, seconds: float, count: int) -> None:
        trainer = self.trainer
        per_step, memory = seconds / max(count, 1), memory_use(trainer.device)
        trainer.stats.report("Timing/sec_per_step", per_step)
        for name, value in memory.items():
            trainer.stats.report(f"Resources/{name}_gb", value)
        summary = trainer.stats.collect()
        means = {name: summary.get(f"Loss/{name}", {"mean": 0.0})["mean"] for name in ("total", "latent", "pixels")}
        left = (self.config.steps - trainer.step_index) * per_step
        print(f"step {trainer.step_index:<7d} loss {means['total']:.4f}  latent {means['latent']:.3f}  "
              f"pixels {means['pixels']:.4f}  sec/step {per_step:<6.3f} time "
              f"{format_time(time.time() - self.started):<10s} cpumem {memory['cpumem']:.2f}  eta {format_time(left)}")
        self.writer.write(summary, trainer.step_index)
        if not np.isfinite(means["total"]):
            raise UserError(f"The loss became {means['total']} before step {trainer.step_index}; resume from the last "
                            "state with a lower rate, or look for broken pictures with scripts/dataset_tool.py check.")

    def _save(self) -> None:
        """Write snapshot and state; a full disk is reported and the run goes on with the files it had."""
        trainer = self.trainer
        try:
            checkpoints.save_expression(trainer.ema, self.folder / f"expression-{trainer.step_index:06d}.safetensors",
                                        step=trainer.step_index,
                                        provenance=provenance(self.config.preset, self.config.data.path))
            run_folder.save_state(self.folder, trainer.step_index,
                                  {"trainer": trainer.state_dict(), "seconds": time.time() - self.started})
        except UserError as error:
            print(f"  {error}")

    @torch.no_grad()
    def _judge(self) -> None:
        """Print the losses on held-out subjects, beside those of a prediction of no change."""
        if self.held_out is None:
            return
        batch = self.held_out.batch(min(_HELD_OUT, len(self.held_out.pairs)), 0)
        values = self.trainer.terms(self.trainer.ema, batch)
        still = self.trainer.terms(self.trainer.ema, TripletBatch(**{**vars(batch), "table": 0 * batch.table}))
        self.writer.write_values({f"Held-out/{name}": float(value) for name, value in values.items()},
                                 self.trainer.step_index)
        print("  held-out subjects: " + ", ".join(f"{name} {float(values[name]):.4f} (unmoved {float(still[name]):.4f})"
                                                  for name in values))


def read_config(folder: str | os.PathLike, changes: dict) -> ExpressionTrainConfig:
    """The config of a run with ``changes`` put over it."""
    return config_json.replace(run_folder.read_options(folder, ExpressionTrainConfig), changes)
