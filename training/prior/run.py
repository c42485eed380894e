"""The run around the steps of a prior: ticks, status, previews, snapshots, resuming."""

import os
from pathlib import Path

import torch

from gghead import checkpoints
from gghead.models.generator import Generator
from gghead.models.head_components import HeadComponents
from gghead.models.prior import Prior
from gghead.torch_utils.cli import hint
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.machine import keep_freed_memory
from gghead.torch_utils.progress import progress
from gghead.training.prior.config import PriorTrainConfig
from gghead.training.prior.data import Heads, conditions, open_heads, split
from gghead.training.prior.trainer import PriorTrainer, new_prior
from gghead.training.run import run_folder
from gghead.training.run.run_folder import provenance
from gghead.training.run.stats import StatsWriter, Summary
from gghead.training.run.step_run import StepRun

_PREVIEWS = 8  # heads per preview image


def open_data(config: PriorTrainConfig, model: Generator) -> tuple[Heads, Heads]:
    """Training and held-out heads of a run."""
    with progress("Reading or drawing the latents"):
        return split(open_heads(model, config.latents, config.samples), config.holdout, config.seed)


def run(
    config: PriorTrainConfig,
    outdir: str | os.PathLike = "training-runs",
    device: torch.device | str = "cpu",
    *,
    resume: Path | None = None,
) -> Path:
    """Train until ``config.steps``, or until Ctrl-C, which saves a state to resume from.

    Return the run folder.

    Raises ``UserError`` for latents or files that do not fit.
    """
    device = torch.device(device)
    if device.type == "cpu":
        keep_freed_memory()
    model = checkpoints.load(config.network, device=device, kind="generator")
    heads, held_out = open_data(config, model)
    cond, held_out_cond = (conditions(config.cond, part.names) for part in (heads, held_out))
    with progress("Measuring the latents"):
        prior = new_prior(config, model, heads, cond)
    state = None
    if resume is not None:
        state = run_folder.load_state(resume)
        _check_same(prior, state["trainer"]["prior"], resume)
        # the heads are encoded by the statistics they were
        prior.load_state_dict(state["trainer"]["prior"])
    trainer = PriorTrainer(
        config, prior, heads, held_out if len(held_out) else None, cond, held_out_cond, device
    )
    if state is not None:
        trainer.load_state_dict(state["trainer"])
    source = Path(config.latents.split(",")[0]).stem if config.latents else "samples"
    folder = resume or run_folder.numbered_folder(outdir, ["prior", config.preset, source])
    run_folder.write_options(folder, config)
    with StatsWriter(folder, done=trainer.step_number if state else None) as writer:
        seconds = state["seconds"] if state else 0.0
        _Run(config, folder, trainer, writer, seconds, model, heads, held_out).train()
    return folder


def _check_same(prior: Prior, state: dict[str, torch.Tensor], resume: Path) -> None:
    """Refuse data that are not what they were, by their statistics.

    Bases may turn with the rounding of another machine.
    """
    for name, value in prior.state_dict().items():
        if name.startswith(("tokens.", "cond_")):
            old, turns = state.get(name), name.endswith("_basis")
            if old is None or old.shape != value.shape:
                same = False
            else:
                same = turns or torch.allclose(old, value.cpu(), rtol=1e-3, atol=1e-4)
            if not same:
                raise UserError(
                    f"The latents are not those that {resume} was trained on; put them back, or"
                    " start a new run."
                )


def _describe_count(heads: Heads, what: str = "") -> str:
    people = len(heads.person.unique())
    return f"{len(heads)}{what}" + (
        f" of {people} pe{'ople' if people > 1 else 'rson'}" if people < len(heads) else ""
    )


class _Run(StepRun[PriorTrainConfig, PriorTrainer]):
    script = "train_prior.py"
    remedy = "When you continue, take a lower `lr`; the same options end the same way."

    def __init__(
        self,
        config: PriorTrainConfig,
        folder: Path,
        trainer: PriorTrainer,
        writer: StatsWriter,
        seconds: float,
        model: Generator,
        heads: Heads,
        held_out: Heads,
    ) -> None:
        super().__init__(config, folder, trainer, writer, seconds, config.steps)
        self.model, self.heads, self.held_out = model, heads, held_out

    @property
    def done(self) -> int:
        return self.trainer.step_number

    def print_start(self) -> None:
        config, prior, held_out = self.config, self.trainer.prior, self.held_out
        shape = prior.config.tokens
        sources = [
            *([config.latents] if config.latents else []),
            *([f"{config.samples} samples"] if config.samples else []),
        ]
        print(
            f"Latents of {config.network}: {_describe_count(self.heads, ' heads')}"
            f" ({' and '.join(sources)}), and {_describe_count(held_out)} held out"
        )
        same = "" if shape.rows > 1 else ", the same for all layers"
        if isinstance(prior.tokens, HeadComponents):
            shares = [
                f"{prior.tokens.explained_share(part.latent):.0%} of the variance of {name} heads"
                for name, part in (("training", self.heads), ("held-out", held_out))
                if len(part)
            ]
            print(
                f"Token: {shape.components} components of whole heads, which hold"
                f" {' and '.join(shares)}"
            )
        else:
            print(
                f"Tokens: {shape.rows} style{'s'[: shape.rows > 1]} of {shape.w_components}"
                f" components{same}"
                + (
                    f"; {shape.patches} patches of {shape.patch}x{shape.patch} with"
                    f" {shape.z_components} of {shape.channels} channels"
                    if shape.channels
                    else "; no residual on Z"
                )
            )
        parameters = sum(value.numel() for value in prior.flow.parameters())
        cond = (
            f"conditions of {self.trainer.prior.config.cond_dim} numbers"
            if config.cond
            else "no condition"
        )
        print(f"Flow: {parameters / 1e6:.1f} M parameters, {cond}")
        if not len(held_out):
            print(
                "  data: no head is held out, so nothing will tell learning from learning by heart"
            )
        elif not self.done:  # the normal distribution with the training set's moments
            print(
                "Untrained: "
                + "  ".join(f"{name} {value:.4f}" for name, value in self.trainer.check().items())
            )

    def measure(self) -> dict[str, float]:
        values = {f"Check/{name}": value for name, value in self.trainer.check().items()}
        if self.trainer.exhausted:
            self.total = self.done
        return values

    def describe_losses(self, summary: Summary) -> str:
        names = {"loss": "Loss/total", "train": "Check/train", "held_out": "Check/held_out"}
        return "  ".join(
            f"{said} {summary[name]['mean']:.4f}" for said, name in names.items() if name in summary
        )

    def write_snapshot(self, folder: Path) -> None:
        data = self.config.latents or f"{self.config.samples} samples"
        prior, step = self.trainer.result
        checkpoints.save(
            prior,
            folder / f"prior-{step:06d}.safetensors",
            done=step,
            provenance=provenance(self.config.preset, data),
        )

    def describe_result(self) -> str:
        step = self.trainer.result[1]
        best = (
            f"The held-out loss was lowest at step {step}, which is kept.\n"
            if step != self.done
            else ""
        )
        heads = hint("gen_samples.py", f"--network={self.config.network}", f"--prior={self.folder}")
        score = hint("scripts/score_prior.py", f"--prior={self.folder}")
        return f"{best}Heads: {heads}\nAre they new? {score}"

    def save_preview(self, folder: Path, writer: StatsWriter) -> None:
        """``preview<step>.png``: heads of the seeds 0, 1, …, without condition."""
        from gghead.figures import beside, write_png
        from gghead.sampling import draw_latent

        images = [
            draw_latent(self.model, self.trainer.result[0].sample(seed), "", yaws=(0.0,)).image
            for seed in range(_PREVIEWS)
        ]
        sheet = beside(images)
        write_png(folder / f"preview{self.trainer.step_number:06d}.png", sheet)
        writer.write_image("preview", sheet, self.trainer.step_number)
