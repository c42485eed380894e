"""The run around a decoder's steps: ticks, status, previews, snapshots, resuming."""

import os
from pathlib import Path

import torch

from gghead import checkpoints
from gghead.perceptual.load import load_for_training
from gghead.rendering import registry
from gghead.torch_utils.cli import hint
from gghead.torch_utils.machine import keep_freed_memory
from gghead.torch_utils.progress import progress
from gghead.training.decoder.config import DecoderTrainConfig, check
from gghead.training.decoder.data import HeadViews
from gghead.training.decoder.score import score_held_out
from gghead.training.decoder.trainer import DecoderTrainer
from gghead.training.encoder.data import read_captures
from gghead.training.gan import images, previews
from gghead.training.run import run_folder
from gghead.training.run.precision import set_precision
from gghead.training.run.run_folder import FROM_CAPTURES, provenance
from gghead.training.run.seen_yaws import seen_yaws
from gghead.training.run.stats import StatsWriter, Summary
from gghead.training.run.step_run import StepRun

_PREVIEW_HEADS = 8
_SCORED_HEADS = 32


def run(
    config: DecoderTrainConfig,
    outdir: str | os.PathLike = "training-runs",
    device: torch.device | str = "cpu",
    *,
    resume: Path | None = None,
) -> Path:
    """Train until ``config.steps`` or until Ctrl-C; return the run folder.

    Ctrl-C saves a state to resume from. Raises ``UserError`` for data or files that do not fit.
    """
    device = torch.device(device)
    check(config)
    set_precision(config.precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    state = run_folder.load_state(resume) if resume is not None else None
    with progress(f"Reading {config.data.path}"):
        captures = read_captures(config.data.path)
        heads = HeadViews(captures, config.data, config.generator.image_size)
    with progress("Building the networks"):
        size = config.generator.image_size
        perceptual = load_for_training(config.loss.perceptual_net, [size], device)
        trainer = DecoderTrainer(config, heads, device, perceptual)
    if state is not None:
        trainer.load_state_dict(state["trainer"])
    folder = resume or run_folder.numbered_folder(
        outdir, ["decoder", config.preset, Path(config.data.path).stem]
    )
    run_folder.write_options(folder, config)
    with StatsWriter(folder, done=trainer.step_index if state else None) as writer:
        _Run(config, folder, trainer, writer, state["seconds"] if state else 0.0).train()
    return folder


class _Run(StepRun[DecoderTrainConfig, DecoderTrainer]):
    script = "train_decoder.py"
    remedy = (
        "When you continue, take a lower `lr`, or look for broken images with"
        " scripts/dataset_tool.py check; the same options end the same way."
    )

    def __init__(
        self,
        config: DecoderTrainConfig,
        folder: Path,
        trainer: DecoderTrainer,
        writer: StatsWriter,
        seconds: float,
    ) -> None:
        super().__init__(config, folder, trainer, writer, seconds, config.steps)
        self.yaws = seen_yaws(trainer.heads.cameras)

    @property
    def done(self) -> int:
        return self.trainer.step_index

    def print_start(self) -> None:
        heads, trainer = self.trainer.heads, self.trainer
        print(
            f"Data: {self.config.data.path}: {heads.subjects} subjects, {len(heads.heads)} heads,"
            f" {sum(map(len, heads.heads))} images; held out:"
            f" {sum(map(len, heads.held_out))} images"
        )
        millions = sum(p.numel() for p in trainer.model.parameters()) / 1e6
        print(
            f"Generator {millions:.2f} M parameters, {trainer.model.attributes.num} Gaussians;"
            f" rasterizer {registry.resolve('auto', trainer.device, torch.float32)}"
        )

    def describe_losses(self, summary: Summary) -> str:
        return (
            f"loss {summary['Loss/total']['mean']:.4f}  pixels {summary['Loss/pixels']['mean']:.4f}"
        )

    def write_snapshot(self, folder: Path) -> None:
        said = provenance(self.config.preset, self.config.data.path, self.yaws)
        checkpoints.save(
            self.trainer.drawing_model(),
            folder / f"network-snapshot-{self.done:06d}.safetensors",
            # thousands of images shown, as a GAN's snapshots count
            done=self.done * self.config.batch * self.config.views / 1000,
            provenance=said | FROM_CAPTURES,
        )

    def describe_result(self) -> str:
        heads = hint("gen_samples.py", f"--network={self.folder}", "--seeds=0-7")
        train = hint("train.py", "--data=IMAGES", f"--init={self.folder}")
        return f"Heads: {heads}\nA GAN that starts from it: {train}"

    @torch.no_grad()
    def save_preview(self, folder: Path, writer: StatsWriter) -> None:
        """Write ``preview<step>.png`` and ``fakes<step>.png``.

        The first shows held-out views above what is made of them, the second heads that are drawn.
        """
        trainer, heads = self.trainer, self.trainer.heads
        chosen = range(min(_SCORED_HEADS, len(heads.heads)))
        values, pairs = score_held_out(trainer.ema, trainer.styles.weight, heads, chosen)
        if len(values):
            decibel = float(values.mean())
            writer.write_values({"Preview/psnr_held_out": decibel}, self.done)
            print(f"  views never trained on: {decibel:.2f} dB inside the masks")
            shown = pairs[:_PREVIEW_HEADS].transpose(0, 1).flatten(0, 1)
            sheet = images.save_image_grid(
                shown * 2 - 1, folder / f"preview{self.done:06d}.png", (len(shown) // 2, 2)
            )
            writer.write_image("preview", sheet, self.done)
        model = trainer.drawing_model()
        strip = previews.turn_strip(model, range(_PREVIEW_HEADS), model.config.image_size)
        images.save_yaw_strip(
            strip,
            folder / f"fakes{self.done:06d}.png",
            range(_PREVIEW_HEADS),
            previews.STRIP_YAWS,
        )
