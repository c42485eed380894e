"""The run around the steps of an expression transformer.

Ticks, status, held-out scores, snapshots, resuming.
"""

import os
from pathlib import Path

import torch

from gghead import checkpoints
from gghead.models.reconstructor import Reconstructor
from gghead.torch_utils import config as config_json
from gghead.torch_utils.cli import hint
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.machine import keep_freed_memory
from gghead.torch_utils.progress import progress
from gghead.training.encoder.data import read_captures
from gghead.training.expression.config import ExpressionTrainConfig, check
from gghead.training.expression.data import TripletBatch, Triplets
from gghead.training.expression.trainer import ExpressionTrainer
from gghead.training.run import run_folder
from gghead.training.run.precision import set_precision
from gghead.training.run.run_folder import provenance
from gghead.training.run.stats import StatsWriter, Summary
from gghead.training.run.step_run import StepRun

_HELD_OUT = 12  # triplets that are looked at with every snapshot


def run(
    config: ExpressionTrainConfig,
    outdir: str | os.PathLike = "training-runs",
    device: torch.device | str = "cpu",
    *,
    resume: Path | None = None,
) -> Path:
    """Train until ``config.steps``, or until Ctrl-C, which saves a state to resume from.

    Return the run folder.

    Raises ``UserError`` for data, networks or files that do not fit.
    """
    device = torch.device(device)
    check(config)
    set_precision(config.precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    state = run_folder.load_state(resume) if resume is not None else None
    network: Reconstructor = checkpoints.load(config.network, device, kind="reconstructor")
    with progress(f"Reading {config.data.path}"):
        captures, size = read_captures(config.data.path), network.generator.config.image_size
        wanted = config.loss.latent > 0
        triplets = Triplets(captures, config.data, size, network, config.seed, wanted)
    trainer = ExpressionTrainer(config, triplets, network, device)
    if state is not None:
        if state["trainer"]["network"] != trainer.model.config.network:
            raise UserError(
                f"{resume} was trained with another snapshot of {config.network}; "
                "name that file itself with `network`."
            )
        trainer.load_state_dict(state["trainer"])
    held_out = None
    if config.data.holdout:
        options = config_json.replace(config.data, {"holdout": [], "mirror": False, "subsets": 1})
        held_out = Triplets(
            captures.select(subjects=config.data.holdout),
            options,
            size,
            network,
            config.seed,
            wanted,
        )
    folder = resume or run_folder.numbered_folder(
        outdir, ["expression", config.preset, Path(config.data.path).stem]
    )
    run_folder.write_options(folder, config)
    with StatsWriter(folder, done=trainer.step_index if state else None) as writer:
        _Run(config, folder, trainer, held_out, writer, state["seconds"] if state else 0.0).train()
    return folder


class _Run(StepRun[ExpressionTrainConfig, ExpressionTrainer]):
    script = "train_expression.py"
    remedy = (
        "When you continue, take a lower `lr`, or look for broken images with"
        " scripts/dataset_tool.py check; the same options end the same way."
    )

    def __init__(
        self,
        config: ExpressionTrainConfig,
        folder: Path,
        trainer: ExpressionTrainer,
        held_out: Triplets | None,
        writer: StatsWriter,
        seconds: float,
    ) -> None:
        super().__init__(config, folder, trainer, writer, seconds, config.steps)
        self.held_out = held_out

    @property
    def done(self) -> int:
        return self.trainer.step_index

    def print_start(self) -> None:
        triplets, trainer = self.trainer.triplets, self.trainer
        print(
            f"Data: {self.config.data.path}: {len(triplets.pairs)} triplets, {len(triplets.names)}"
            f" coefficients; held out: {', '.join(self.config.data.holdout) or 'none'}"
        )
        if self.config.data.mirror and not triplets.mirrors:
            print(
                "  data: not mirrored, because not every coefficient has a name for its other side"
            )
        millions = sum(p.numel() for p in trainer.model.parameters()) / 1e6
        print(
            f"Expression transformer: {millions:.2f} M parameters, for latents of"
            f" {self.config.network} ({trainer.model.config.network})"
        )

    def describe_losses(self, summary: Summary) -> str:
        means = {
            name: summary.get(f"Loss/{name}", {"mean": 0.0})["mean"]
            for name in ("total", "motion", "pixels")
        }
        return (
            f"loss {means['total']:.4f}  motion {means['motion']:.3f}  pixels {means['pixels']:.4f}"
        )

    def write_snapshot(self, folder: Path) -> None:
        checkpoints.save(
            self.trainer.ema,
            folder / f"expression-{self.done:06d}.safetensors",
            done=self.done,
            provenance=provenance(self.config.preset, self.config.data.path),
        )

    def describe_result(self) -> str:
        scores = hint(
            "scripts/score_expression.py",
            f"--network={self.config.network}",
            f"--motion={self.folder}",
            f"--data={self.config.data.path}",
        )
        return f"Scores: {scores}"

    @torch.no_grad()
    def save_preview(self, folder: Path, writer: StatsWriter) -> None:
        """Print the losses on held-out subjects, beside those of a prediction of no change."""
        if self.held_out is None:
            return
        batch = self.held_out.batch(min(_HELD_OUT, len(self.held_out.pairs)), 0)
        values = self.trainer.terms(self.trainer.ema, batch)
        still = self.trainer.terms(
            self.trainer.ema, TripletBatch(**{**vars(batch), "table": 0 * batch.table})
        )
        writer.write_values(
            {f"Held-out/{name}": float(value) for name, value in values.items()},
            self.trainer.step_index,
        )
        print(
            "  held-out subjects: "
            + ", ".join(
                f"{name} {float(values[name]):.4f} (unmoved {float(still[name]):.4f})"
                for name in values
            )
        )
