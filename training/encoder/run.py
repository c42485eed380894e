"""The run around an encoder's steps: ticks, status, previews, snapshots, resuming."""

import contextlib
import os
from pathlib import Path

import torch

from gghead import checkpoints
from gghead.data.backdrop import describe_backdrop
from gghead.data.captures import Captures
from gghead.image_metrics import psnr
from gghead.models.generator import Generator
from gghead.models.reconstructor import Reconstructor
from gghead.perceptual.load import load_for_training
from gghead.rendering import registry, render
from gghead.rendering.render import LOW_PASS
from gghead.torch_utils import config as config_json
from gghead.torch_utils.cli import hint
from gghead.torch_utils.cli_words import in_flags
from gghead.torch_utils.distributed import Processes
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.machine import keep_freed_memory
from gghead.torch_utils.progress import progress
from gghead.training.encoder.config import EncoderTrainConfig, check, stage_at
from gghead.training.encoder.data import CaptureHeads, HeadBatch, read_captures
from gghead.training.encoder.trainer import EncoderTrainer
from gghead.training.gan import images
from gghead.training.run import run_folder
from gghead.training.run.precision import set_precision
from gghead.training.run.run_folder import provenance
from gghead.training.run.stats import StatsWriter, Summary
from gghead.training.run.step_run import StepRun

_PREVIEW_HEADS, _PREVIEW_VIEWS = 4, 4


def run(
    config: EncoderTrainConfig,
    outdir: str | os.PathLike = "training-runs",
    device: torch.device | str = "cpu",
    processes: Processes | None = None,
    *,
    resume: Path | None = None,
) -> Path | None:
    """Train until ``config.steps``, or until Ctrl-C, which saves a state to resume from.

    Return the run folder, which a new run has in its first process alone.

    Raises ``UserError`` for data or files that do not fit.
    """
    device = torch.device(device)
    processes = processes or Processes()
    check(config, processes.world_size)
    set_precision(config.precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    state = run_folder.load_state(resume) if resume is not None else None
    init = _load_init(config.init) if config.init is not None else None
    first = stage_at(config.stages, state["trainer"]["step"] if state else 0)
    with progress(f"Reading {config.data.path or config.init}"):
        source = read_captures(config.data.path) if config.data.path else None
        captures = (
            CaptureHeads(source, config.data, first.image_size) if source is not None else None
        )
    sizes = [stage.image_size for stage in config.stages]
    with progress("Building the networks"):
        perceptual = load_for_training(config.loss.perceptual_net, sizes, device)
        trainer = EncoderTrainer(config, captures, device, processes, init, perceptual)
    if state is not None:
        trainer.load_state_dict(state["trainer"])
    seconds = state["seconds"] if state else 0.0
    trainer.read_ahead()
    with contextlib.closing(trainer):
        return _train(config, outdir, trainer, source, seconds, resume, state is not None)


def _train(
    config: EncoderTrainConfig,
    outdir: str | os.PathLike,
    trainer: EncoderTrainer,
    source: Captures | None,
    seconds: float,
    folder: Path | None,
    resumed: bool,
) -> Path | None:
    if trainer.processes.is_first:
        name = Path(config.data.path).stem if config.data.path else "samples"
        folder = folder or run_folder.numbered_folder(outdir, ["encoder", config.preset, name])
        run_folder.write_options(folder, config)
        with StatsWriter(folder, done=trainer.step_index if resumed else None) as writer:
            _Run(config, folder, trainer, writer, seconds, source).train()
    else:
        _Run(config, None, trainer, None, seconds, source).train()
    return folder


def _load_init(path: str) -> Reconstructor | Generator:
    model = checkpoints.load(path)
    if not isinstance(model, (Reconstructor, Generator)):
        raise UserError(
            f"`init='{path}'` is neither a generator nor a reconstructor; name a snapshot of"
            " train.py or of scripts/train_encoder.py."
        )
    return model


class _Run(StepRun[EncoderTrainConfig, EncoderTrainer]):
    script = "train_encoder.py"
    remedy = (
        "When you continue, take a lower `lr`, or look for broken images with"
        " scripts/dataset_tool.py check; the same options end the same way."
    )

    def __init__(
        self,
        config: EncoderTrainConfig,
        folder: Path | None,
        trainer: EncoderTrainer,
        writer: StatsWriter | None,
        seconds: float,
        source: Captures | None,
    ) -> None:
        super().__init__(config, folder, trainer, writer, seconds, config.steps, trainer.processes)
        self.source = source

    @property
    def done(self) -> int:
        return self.trainer.step_index

    def step(self) -> None:
        """Read the captures at the stage's size, then step."""
        captures, size = (
            self.trainer.captures,
            stage_at(self.config.stages, self.trainer.step_index).image_size,
        )
        if captures is not None and self.source is not None and captures.size != size:
            self.trainer.captures = CaptureHeads(self.source, self.config.data, size)
            self.trainer.read_ahead()
        if self.trainer.samples is not None:
            self.trainer.samples.size = size
        super().step()

    def print_start(self) -> None:
        config, trainer, captures = self.config, self.trainer, self.trainer.captures
        if captures is not None:
            print(
                f"Data: {config.data.path}: {captures.subjects} subjects, {len(captures.heads)}"
                f" heads, {len(captures.captures)} images; held out:"
                f" {', '.join(config.data.holdout) or 'none'}"
            )
            if captures.backdrop is not None:
                print(f"  data: {describe_backdrop(captures.backdrop)}")
        if trainer.samples is not None:
            print(f"Data: samples of {config.init} in {config.data.gan_share:.0%} of the steps")
        if trainer.perceptual is not None:
            print(f"  loss: {trainer.perceptual.name} with weight {config.loss.perceptual:g}")
        elif config.loss.perceptual > 0:
            print(
                "  loss: no perceptual network is given"
                f" ({in_flags('`perceptual_net`')}), so pixels and gradients at several scales"
                " stand for it"
            )
        millions = [
            sum(p.numel() for p in group) / 1e6
            for group in (trainer.encoder_parameters, trainer.decoder_parameters)
        ]
        print(
            f"Encoder {millions[0]:.2f} M parameters, decoder {millions[1]:.2f} M trained, "
            f"{trainer.model.generator.attributes.num} Gaussians; rasterizer "
            f"{registry.resolve('auto', trainer.device, torch.float32)}"
        )

    def describe_losses(self, summary: Summary) -> str:
        return (
            f"loss {summary['Loss/total']['mean']:.4f}  pixels {summary['Loss/pixels']['mean']:.4f}"
        )

    def write_snapshot(self, folder: Path) -> None:
        step, said = self.done, provenance(self.config.preset, self.config.data.path)
        checkpoints.save(
            self.trainer.ema,
            folder / f"reconstructor-{step:06d}.safetensors",
            done=step,
            provenance=said,
        )

    def describe_result(self) -> str:
        if self.source is None:
            return (
                "Scores:"
                f" {hint('scripts/score_encoder.py', f'--network={self.folder}', '--data=gan')}"
            )
        subject = (self.config.data.holdout or self.source.subjects)[0]
        heads = hint(
            "scripts/reconstruct.py",
            f"--network={self.folder}",
            f"--data={self.config.data.path}",
            f"--subject={subject}",
            "--max-views=4",
        )
        return f"Heads: {heads}"

    @torch.no_grad()
    def save_preview(self, folder: Path, writer: StatsWriter) -> None:
        """Write ``preview<step>.png``: per head the inputs, other views, and what is made of them.

        The heads are those of held-out subjects where there are any.
        """
        batch, where = self._preview_batch()
        # samples of the GAN are made on its device
        batch, model = batch.to("cpu"), self.trainer.ema
        gaussians = model.encode(batch.rgb, batch.cameras).gaussians(model.generator)
        shown = (
            render(
                gaussians,
                batch.target_cameras.to(model.device),
                batch.target.shape[-1],
                background=1.0,
                depth=False,
                eps2d=LOW_PASS,  # as in training, also in a stage of larger images
            )
            .color.cpu()
            .clamp(0, 1)
        )
        others = slice(1, None)  # the first target is an input
        decibel = (
            psnr(shown[:, others], batch.target[:, others], batch.alpha[:, others]).mean().item()
        )
        writer.write_values({f"Preview/psnr_{where}": decibel}, self.trainer.step_index)
        print(f"  {where} heads, views that were no input: {decibel:.2f} dB inside the masks")
        row = torch.cat([batch.rgb, batch.target[:, others], shown[:, others]], 1)
        sheet = images.save_image_grid(
            row.flatten(0, 1) * 2 - 1,
            folder / f"preview{self.trainer.step_index:06d}.png",
            (row.shape[1], row.shape[0]),
        )
        writer.write_image("preview", sheet, self.trainer.step_index)

    def _preview_batch(self) -> tuple[HeadBatch, str]:
        """The same heads every time."""
        config, stage = self.config, stage_at(self.config.stages, self.trainer.step_index)
        changes = {
            "views": [min(_PREVIEW_VIEWS, max(stage.views))],
            "targets": 1 + _PREVIEW_VIEWS,
            "batch": _PREVIEW_HEADS,
        }
        stage, rows = config_json.replace(stage, changes), slice(0, _PREVIEW_HEADS)
        where = "training"
        source = self.trainer.captures or self.trainer.samples
        if self.source is not None and config.data.holdout:
            options = config_json.replace(
                config.data,
                {
                    "holdout": [],
                    "identities": None,
                    "mirror": False,
                    "jitter": 0.0,
                    "cameras": None,
                },
            )
            source = CaptureHeads(
                self.source.select(subjects=config.data.holdout), options, stage.image_size
            )
            where = "held-out"
        assert source is not None  # config.check asks for data or for samples
        return source.batch(stage, config.seed, 0, rows), where
