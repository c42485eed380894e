"""The run around the steps: data, ticks, status, images, snapshots, resuming."""

import contextlib
import os
import time
from pathlib import Path

import torch

from gghead import checkpoints
from gghead.cameras import Cameras
from gghead.data import BatchLoader, ImageDataset
from gghead.data.backdrop import describe_backdrop
from gghead.data.check.report import check_at_start
from gghead.rendering import registry
from gghead.torch_utils import threads
from gghead.torch_utils.cli import hint
from gghead.torch_utils.cli_words import in_flags
from gghead.torch_utils.distributed import Processes, barrier
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.machine import keep_freed_memory
from gghead.torch_utils.progress import Progress, progress
from gghead.training.gan.config import TrainConfig, check, stage_at
from gghead.training.gan.data import open_dataset, open_full
from gghead.training.gan.initial import Initial, load_initial, plan_start, read_initial
from gghead.training.gan.previews import fixed_styles, save_fakes, save_reals
from gghead.training.gan.trainer import Trainer
from gghead.training.gan.watchdog import Watchdog
from gghead.training.metrics import MetricSet, write_metric
from gghead.training.metrics.sampler import ModelSampler
from gghead.training.run import run_folder
from gghead.training.run.console import memory_use, status_line
from gghead.training.run.health import describe_bad_updates, judge_losses
from gghead.training.run.interrupt import StopRequest
from gghead.training.run.precision import set_precision
from gghead.training.run.saving import Saver
from gghead.training.run.seen_yaws import seen_yaws
from gghead.training.run.stats import StatsWriter, Summary

_REMEDY = (
    "When you continue, lower `set=optimizer.g_lr` and `set=optimizer.d_lr`, or raise"
    " `set=loss.r1_gamma`; the same options end the same way."
)
_MUCH_WAITING = 0.1  # share of a tick spent waiting for images that is worth a word


def run(
    config: TrainConfig,
    outdir: str | os.PathLike = "training-runs",
    device: torch.device | str = "cpu",
    processes: Processes | None = None,
    *,
    dataset: ImageDataset | None = None,
    resume: Path | None = None,
    init: Initial | str | None = None,
    desc: str | None = None,
) -> Path | None:
    """Train until ``config.kimg``, or until Ctrl-C, which saves a state to resume from.

    Return the run folder, which a new run has in its first process alone.

    ``dataset`` is what ``config.data`` names where it is open already; it is closed at the end.

    Raises ``UserError`` for data or files that do not fit, for a run that diverges, and for one
    whose last state cannot be written: returning means that the last state and snapshot are on the
    disk.
    """
    device, processes = torch.device(device), processes or Processes()
    check(config, processes.world_size)
    set_precision(config.precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    state = run_folder.load_state(resume) if resume is not None else None
    initial, first = None, state["trainer"]["step"] if state else 0
    if state is None and init is not None:
        initial = init if isinstance(init, Initial) else read_initial(init)
        config, first = plan_start(config, initial)
    nimg = first * config.batch
    with progress(f"Reading {config.data.path}"):
        dataset = open_dataset(config.data) if dataset is None else dataset
    with contextlib.closing(dataset):
        dataset = dataset.resize(stage_at(config.stages, nimg)[0].image_size)
        with progress(f"Checking the cameras of {config.data.path}"):
            warnings = check_at_start(dataset) if config.data.check else []
        trainer = Trainer(config, dataset.labels, device, processes)
        if state is not None:
            trainer.load_state_dict(state["trainer"])
        elif initial is not None:
            warnings.append(load_initial(trainer, initial, first))
        folder = resume
        if processes.is_first:
            folder = folder or run_folder.new_run_folder(outdir, config, processes.world_size, desc)
            run_folder.write_options(folder, config)
            with StatsWriter(folder, done=nimg if state else None) as writer:
                for warning in warnings:
                    print(in_flags(f"  {warning}"))
                _Run(config, folder, trainer, dataset, writer, state).train()
        else:
            _Run(config, None, trainer, dataset, None, state).train()
        return folder


class _Run:
    """One process's part of a run; only the first process has a folder and a writer."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path | None,
        trainer: Trainer,
        dataset: ImageDataset,
        writer: StatsWriter | None,
        state: dict | None,
    ) -> None:
        self.config, self.folder, self.trainer, self.dataset, self.writer = (
            config,
            folder,
            trainer,
            dataset,
            writer,
        )
        self.processes = trainer.processes
        self.watchdog = Watchdog()
        self.saver = Saver(folder, self.processes, trainer.device, "train.py", _REMEDY)
        self.metric_set: MetricSet | None = None
        self.loader: BatchLoader | None = None
        self.started = time.time() - (state or {}).get("seconds", 0.0)  # older states do not say
        self.waited = 0.0  # seconds of this tick in which no batch was ready
        self.told: set[str] = set()  # broken images that were spoken of
        self.tick, self.tick_start, self.fresh = 0, trainer.nimg, state is None
        if state is not None:
            self.tick, self.tick_start = state["tick"], state.get("tick_start", trainer.nimg)
            self.watchdog.load_state_dict(state["watchdog"])
            if self.processes.is_first:
                trainer.stats.load_state_dict(state.get("stats", {}))

    def train(self) -> None:
        """Steps until the end; a tick's work in between."""
        trainer, total = self.trainer, int(self.config.kimg * 1000)
        self._print_start()
        if self.config.metrics:
            # a wrong name or a set too small fails now and not at the first snapshot
            self._metric_set().prepare()
        if self.fresh:
            with progress("Drawing the first images"):
                if self.folder is not None:
                    over = self.config.data.background != "image"
                    save_reals(self.dataset, self.config.seed, self.folder / "reals.png", over)
                self._save_previews("fakes_init")
        barrier(
            self.processes,
            "the first process, which measures the data and draws the first images",
        )
        maintenance, stopped = 0.0, False
        with (
            StopRequest(self.processes, trainer.device) as stop,
            contextlib.closing(self),
            progress("Training", self.config.kimg, "kimg", trainer.nimg / 1000) as bar,
        ):
            while trainer.nimg < total:
                begin, first = time.time(), trainer.nimg
                until = min(self.tick_start + int(self.config.tick_kimg * 1000), total)
                stopped = self._steps_of_tick(until, stop, bar)
                if stopped:
                    self._save()
                    # a process that left earlier would have torchrun end the one that saves
                    barrier(self.processes)
                    break  # the tick goes on when the run is resumed
                self.tick += 1
                self._end_tick(time.time() - begin, trainer.nimg - first, maintenance)
                self.tick_start = trainer.nimg
                begin = time.time()
                if trainer.nimg >= total or self.tick % self.config.snapshot_ticks == 0:
                    with progress("Snapshot, images and metrics"):
                        self._save_snapshot()
                elif self.saver.unsaved:
                    self._save()
                else:
                    self.saver.check(trainer.state_dict(), self._counted)
                maintenance = time.time() - begin
        self.saver.finish(self._counted)
        if stopped:
            if self.writer is not None:
                print(
                    f"Stopped at {trainer.nimg / 1000:.1f} kimg. "
                    f"Continue with: {hint('train.py', f'--resume={self.folder}')}"
                )
            raise SystemExit(130)
        if self.writer is not None:
            print(
                f"Done: {trainer.nimg / 1000:.1f} kimg. "
                f"Samples: {hint('gen_samples.py', f'--network={self.folder}')}"
            )

    def close(self) -> None:
        """Stop reading, and drop what was opened for the metrics alone."""
        if self.loader is not None:
            self.loader.close()
            self.loader = None
        if self.metric_set is not None:
            if self.metric_set.full is not self.metric_set.dataset:
                self.metric_set.full.close()
            self.metric_set = None

    def _loader_of(self, size: int) -> BatchLoader:
        """The loader of images of a size.

        It goes on over ticks and snapshots with what it has prepared.
        """
        if self.dataset.resolution != size:
            self.close()
            self.dataset = self.dataset.resize(size)
        if self.loader is None:
            processes, share = self.processes, self.config.batch // self.processes.world_size
            self.loader = BatchLoader(
                self.dataset,
                share,
                self.config.seed,
                processes.rank,
                processes.world_size,
                start=self.trainer.nimg,
                workers=self.config.workers,
                sampler=self.dataset.sampler(self.config.seed),
            )
        return self.loader

    def _steps_of_tick(self, until: int, stop: StopRequest, bar: Progress) -> bool:
        """Train up to ``until`` images; whether a stop was asked for."""
        trainer = self.trainer
        while trainer.nimg < until:
            begin = time.time()
            batch = next(self._loader_of(stage_at(self.config.stages, trainer.nimg)[0].image_size))
            self.waited += time.time() - begin
            with threads.step("train", trainer.device):
                trainer.step(batch)
            if (reason := trainer.health.after_step()) is not None:
                self.saver.fail(reason, self._counted)
            speed = self.config.batch / max(time.time() - begin, 1e-9)
            bar.update(
                trainer.nimg / 1000, f"{speed:.1f} images/s  augment {trainer.augment.p:.3f}"
            )
            if stop.is_requested():
                return True
        return False

    def _end_tick(self, seconds: float, count: int, maintenance: float) -> None:
        trainer = self.trainer
        memory = memory_use(trainer.device)
        trainer.stats.report("Progress/kimg", trainer.nimg / 1000)
        trainer.stats.report("Progress/augment", trainer.augment.p)
        trainer.stats.report("Timing/sec_per_kimg", seconds / max(count, 1) * 1000)
        trainer.stats.report("Timing/maintenance_sec", maintenance)
        share, self.waited = self.waited / max(seconds, 1e-9), 0.0
        trainer.stats.report("Timing/data_wait", share * seconds)
        trainer.stats.report("Timing/data_wait_share", share)
        trainer.stats.report("Progress/broken_images", len(self.dataset.broken))
        for name, value in memory.items():
            trainer.stats.report(f"Resources/{name}_gb", value)
        warnings = self._check_health()
        summary = trainer.stats.collect()
        self._print_tick(summary, seconds, count, maintenance, memory, share, warnings)
        if (reason := judge_losses(summary)) is not None:
            self.saver.fail(reason, self._counted)

    def _print_tick(
        self,
        summary: Summary,
        seconds: float,
        count: int,
        maintenance: float,
        memory: dict[str, float],
        share: float,
        warnings: list[str],
    ) -> None:
        trainer = self.trainer
        if self.writer is None:
            return
        print(
            status_line(
                tick=self.tick,
                images=trainer.nimg,
                seconds=time.time() - self.started,
                seconds_tick=seconds,
                images_tick=count,
                maintenance=maintenance,
                memory=memory,
                augment=trainer.augment.p,
                total_images=int(self.config.kimg * 1000),
            )
        )
        for warning in warnings:
            print(in_flags(f"  watchdog: {warning}"))
        if (line := describe_bad_updates(summary)) is not None:
            print(f"  {line}")
        for name in [name for name in list(self.dataset.broken) if name not in self.told]:
            self.told.add(name)
            print(f"  data: left out, {self.dataset.broken[name]}")
        if share > _MUCH_WAITING:
            more = (
                in_flags("raise `workers`")
                if self.config.workers is not None
                else "use a machine with more cores"
            )
            print(
                f"  data: {share:.0%} of the time no images were ready; {more}, store the images at"
                " the training size, or as PNG or JPEG on a local disk"
            )
        self.writer.write(summary, trainer.nimg)

    @torch.no_grad()
    def _check_health(self) -> list[str]:
        """Report coverage, scale quantiles and score signs of a few heads.

        The heads are fixed and those of the moving average.
        """
        trainer, model = self.trainer, self.trainer.G_ema
        ws = torch.cat([fixed_styles(model, seed) for seed in range(8)])
        gaussians = model.gaussians(ws)
        index = torch.arange(8, device=trainer.device) % len(trainer.labels)
        cameras = Cameras.from_label(trainer.labels[index][:, None])
        out = model.render(gaussians, cameras, model.config.image_size)
        heads = gaussians.select(slice(0, model.attributes.num))
        values = self.watchdog.observe(
            alpha=out.alpha[:, 0],
            scales=heads.scales,
            spacing=model.attributes.spacing,
            opacities=heads.opacities,
            fakes=out.color[:, 0],
            sign_real=trainer.stats.mean("Loss/signs/real"),
            sign_fake=trainer.stats.mean("Loss/signs/fake"),
        )
        for name, value in values.items():
            trainer.stats.report(name, value)
        return self.watchdog.verdict()

    def _save_snapshot(self) -> None:
        self._save()
        for part in (
            lambda: self._save_previews(f"fakes{int(self.trainer.nimg // 1000):06d}"),
            self._measure,
        ):
            try:
                part()
            # as a rule the disk is full, which is no reason to lose the run
            except UserError as error:
                print(f"  {error}")
        barrier(self.processes)

    def _save(self) -> None:
        """Write snapshot and state, if they are sound; all processes call it."""
        kimg = self.trainer.nimg / 1000
        state = {
            "trainer": self.trainer.state_dict(),
            "tick": self.tick,
            "tick_start": self.tick_start,
            "stats": self.trainer.stats.state_dict(),
            "watchdog": self.watchdog.state_dict(),
            "seconds": time.time() - self.started,
        }

        def write_snapshot(folder: Path) -> None:
            cameras = Cameras.from_label(self.trainer.labels.cpu())
            checkpoints.save(
                self.trainer.G_ema,
                run_folder.snapshot_path(folder, kimg),
                done=kimg,
                provenance=run_folder.provenance(
                    self.config.preset,
                    self.config.data.path,
                    seen_yaws(cameras),
                ),
            )

        self.saver.save(kimg, state, write_snapshot, self._counted)

    @property
    def _counted(self) -> str:
        return f"{self.trainer.nimg / 1000:.3f} kimg"

    def _measure(self) -> None:
        """Measure on all processes; the first one writes."""
        if not self.config.metrics:
            return
        sampler = ModelSampler(self.trainer.G_ema, self.trainer.labels, self.config.seed)
        snapshot = run_folder.snapshot_path(self.folder or Path(), self.trainer.nimg / 1000).name
        records = self._metric_set().evaluate(sampler, snapshot=snapshot)
        if self.writer is None or self.folder is None:
            return
        for record in records:
            write_metric(record, self.folder)
            results = record["results"]
            print("  " + "  ".join(f"{key} {value:.4g}" for key, value in results.items()))
            self.writer.write_values(
                {f"Metrics/{key}": value for key, value in results.items()}, self.trainer.nimg
            )

    def _metric_set(self) -> MetricSet:
        """The metrics against the data set at its present size.

        The reals are measured once per size.
        """
        if self.metric_set is None:  # dropped where the size changes
            config = self.config
            white = None if config.data.background == "image" else (1.0, 1.0, 1.0)
            self.metric_set = MetricSet(
                self.dataset,
                config.metrics,
                background=white,
                seed=config.seed,
                full=open_full(config.data, self.dataset, config.metrics),
                feature_net=config.feature_net,
                device=self.trainer.device,
                processes=self.processes,
            )
        return self.metric_set

    def _save_previews(self, stem: str) -> None:
        """``<stem>.png`` and ``<stem>_turn.png``, also for tensorboard."""
        if self.writer is None or self.folder is None:
            return
        trainer = self.trainer
        grid, turn = save_fakes(
            trainer.G_ema, trainer.labels, self.config.seed, self.folder / f"{stem}.png"
        )
        self.writer.write_image("fakes", grid, trainer.nimg)
        self.writer.write_image("turn", turn, trainer.nimg)

    def _print_start(self) -> None:
        if self.writer is None:
            return
        choice = registry.resolve("auto", self.trainer.device, torch.float32)
        counts = {
            name: sum(p.numel() for p in getattr(self.trainer, name).parameters()) / 1e6
            for name in "GD"
        }
        print(f"Run folder: {self.folder}")
        print(
            f"Data: {self.config.data.path}: {len(self.dataset)} images, used at"
            f" {self.dataset.resolution} pixels"
        )
        if self.dataset.backdrop is not None:
            print(f"  data: {describe_backdrop(self.dataset.backdrop)}")
        print(
            f"Generator {counts['G']:.2f} M parameters, {self.trainer.G.attributes.num} Gaussians;"
            f" discriminator {counts['D']:.2f} M; rasterizer {choice}"
        )
