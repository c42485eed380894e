"""Named metrics of a data set and a sampler.

They are ``frd2k``, ``frd10k``, ``swd``, ``fd2k`` with an EfficientNet-Lite, and ``fid…`` with the
user's own network.

``frd2k`` is a Fréchet distance on fixed random-convolution features between 2,000 generated
images and the data set (up to 50,000 of it). Next to each distance stands its floor: one random
half of the data set against the other. A floor is measured on half as many images, and Fréchet
distances grow as images get fewer, so a model can end below it.

``fd2k`` is the same on features of EfficientNet-Lite with ImageNet weights.

``fid50k_full`` is StyleGAN's (``metric_main.py`` of its repository): 50,000 generated images with
fresh noise inputs against all files of the data set, unmirrored, and covariances divided by the
number of images. ``fid50k`` is its older one: at most the first 50,000 of what is trained on,
mirrored images included.
"""

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from gghead.data import ImageDataset
from gghead.data.loader import ReadAhead
from gghead.torch_utils.distributed import Processes, barrier
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import cache_dir as default_folder
from gghead.torch_utils.progress import format_time
from gghead.training.metrics import swd
from gghead.training.metrics.cache import dataset_key, load_fits, save_fits
from gghead.training.metrics.features import InceptionFeatures, LiteFeatures, RandomFeatures
from gghead.training.metrics.frechet import GaussianFit, distance
from gghead.training.metrics.names import SWD_IMAGES, Metric, check_feature_net, parse_metrics
from gghead.training.metrics.sampler import Draw, Sampler
from gghead.training.metrics.work_shards import exchange, in_shards

MAX_REALS = 50_000


class MetricSet:
    """Metrics against one data set.

    Whatever concerns the real images is computed once and kept on disk.

    With several processes all of them must call the same methods at the same time: they share the
    work, and have the same results.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        names: str | Sequence[str],
        *,
        # for fid…_full: the same without mirroring or limits; None = the dataset has neither
        full: ImageDataset | None = None,
        # RGB in [0, 1] put behind the mask; None = images as they are
        background: Sequence[float] | None = None,
        # TorchScript network for fid, efficientnet-lite2[:FILE] for fd
        feature_net: str | Path | None = None,
        cache_dir: str | Path | None = None,  # None = the user's cache folder
        seed: int = 0,
        device: torch.device | str = "cpu",
        batch: int = 64,
        processes: Processes | None = None,
    ) -> None:
        """Raise ``UserError`` for unknown names, ``fid`` without a network and sets too small."""
        self.metrics = parse_metrics(names)
        check_feature_net(self.metrics, feature_net)
        if len(dataset) < 4:
            raise UserError(
                f"Metrics need a data set of at least 4 images, but this one has {len(dataset)}."
            )
        if background is not None and not dataset.has_masks:
            raise UserError(
                "Metrics over a plain background need masks, but the data set has none; add them as"
                " masks."
            )
        self.dataset, self.full = dataset, dataset if full is None else full
        self.background, self.feature_net = background, feature_net
        self.cache_dir = Path(cache_dir) if cache_dir is not None else default_folder("metrics")
        self.seed, self.device, self.batch = seed, torch.device(device), batch
        self.processes = processes or Processes()
        self._networks: dict[str, torch.nn.Module] = {}
        self._fits: dict[str, tuple[GaussianFit, GaussianFit]] = {}
        self._patches: tuple[swd.PatchSet, dict[int, float]] | None = None

    def halves(self, kind: str) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Two random halves of the real images of a kind of metric.

        They are indices of ``reals(kind)``.
        """
        random, count = numpy.random.RandomState(self.seed), len(self.reals(kind))
        if kind == "fid":  # the first ones, as StyleGAN takes them
            order = random.permutation(min(count, MAX_REALS))
        else:
            order = random.permutation(count)[: None if kind == "fid_full" else MAX_REALS]
        return order[0::2], order[1::2]

    def reals(self, kind: str) -> ImageDataset:
        """The data set that a kind of metric compares with."""
        return self.full if kind == "fid_full" else self.dataset

    def prepare(self) -> None:
        """Compute everything about the real images now instead of in the first evaluation."""
        barrier(self.processes, "the start of measuring")
        for kind in sorted({metric.kind for metric in self.metrics}):
            if kind == "swd":
                self._real_patches()
            else:
                self._real_fits(kind)

    def evaluate(self, sample: Sampler, *, snapshot: str = "") -> list[dict[str, Any]]:
        """Run all metrics on generated images.

        Returns one dictionary per metric in StyleGAN's form.

        ``results`` holds the distance under the metric's name and its floor under ``<name>_floor``.
        """
        if not self.metrics:
            return []
        start = time.time()
        self.prepare()
        groups: dict[str, list[Metric]] = {}  # metrics that look at the same images
        for metric in self.metrics:
            groups.setdefault(metric.kind if metric.is_fid else "", []).append(metric)
        values: dict[str, dict[str, float]] = {}
        for kind, metrics in groups.items():
            labels = self.full.labels if kind == "fid_full" else None
            values |= self._measure(metrics, sample, "random" if kind else "const", labels)
        seconds = time.time() - start
        records = [
            metric_record(m.name, values[m.name], seconds, snapshot, self.processes.world_size)
            for m in self.metrics
        ]
        for metric, record in zip(self.metrics, records, strict=True):
            if metric.needs_network:
                record["feature_net"] = self._network(metric.kind).name
        return records

    def _measure(
        self, metrics: list[Metric], sample: Sampler, noise_mode: str, labels: Tensor | None
    ) -> dict[str, dict[str, float]]:
        """Results of metrics that look at the same generated images."""
        count = max(metric.images for metric in metrics)
        whole = {m.name: self._empty(m) for m in metrics}

        def work(part: range, tell: Callable[[int], None]) -> list[Tensor]:
            mine, at = {m.name: self._empty(m) for m in metrics}, part.start
            for images in sample(Draw(count, part, self.batch, noise_mode, labels)):
                images = images[: part.stop - at].to(self.device)
                features = {
                    kind: self._network(kind)(images)
                    for kind in {m.kind for m in metrics} - {"swd"}
                }
                for metric in metrics:
                    share = max(min(metric.images - at, len(images)), 0)
                    measured = mine[metric.name]
                    if share and isinstance(measured, swd.PatchSet):
                        measured.add(images[:share], at)
                    elif share and isinstance(measured, GaussianFit):
                        measured.add(features[metric.kind][:share])
                at += len(images)
                tell(len(images))
            if at < part.stop:
                raise ValueError(f"the sampler gave {at - part.start} images of {len(part)}")
            return [tensor for name in mine for tensor in _pack(mine[name])]

        for tensors in in_shards(
            count, work, self.processes, self.device, "Measuring generated images"
        ):
            for metric in metrics:
                tensors = _add_packed(whole, metric.name, tensors)
        results = {}
        for metric in metrics:
            fakes = whole[metric.name]
            if isinstance(fakes, swd.PatchSet):
                results[metric.name] = self._swd_results(metric.name, fakes)
            else:
                halves = self._real_fits(metric.kind)
                between = distance(halves[0].merge(halves[1]), fakes, metric.is_fid)
                results[metric.name] = {
                    metric.name: between,
                    f"{metric.name}_floor": distance(*halves, metric.is_fid),
                }
        return results

    def floors(self) -> dict[str, float]:
        """Return the distance of one half of the data set from the other, by metric."""
        self.prepare()
        return {
            m.name: (
                _mean(self._real_patches()[1])
                if m.kind == "swd"
                else distance(*self._real_fits(m.kind), m.is_fid)
            )
            for m in self.metrics
        }

    def _empty(self, metric: Metric) -> "swd.PatchSet | GaussianFit":
        if metric.kind == "swd":
            return swd.PatchSet(metric.images, self.seed)
        return GaussianFit.empty(self._real_fits(metric.kind)[0].reference)

    def _swd_results(self, name: str, fakes: swd.PatchSet) -> dict[str, float]:
        reals, floor = self._real_patches()
        levels = swd.compare(reals, fakes, self.seed)
        values = {name: _mean(levels), f"{name}_floor": _mean(floor)}
        return values | {f"{name}_{size}px": value for size, value in levels.items()}

    def _network(self, kind: str) -> torch.nn.Module:
        kind = kind.removesuffix("_full")
        if kind not in self._networks:
            if kind == "frd":
                network = RandomFeatures()
            else:
                assert self.feature_net is not None  # check_feature_net saw to it
                features = LiteFeatures if kind == "fd" else InceptionFeatures
                network = features(self.feature_net)
            self._networks[kind] = network.to(self.device)
        return self._networks[kind]

    def _real_fits(self, kind: str) -> tuple[GaussianFit, GaussianFit]:
        if kind not in self._fits:
            network = self._network(kind)
            digest = hashlib.blake2b(digest_size=12)
            digest.update(
                f"{dataset_key(self.reals(kind))}/{network.name}/{self.background}/{self.seed}".encode()
            )
            if kind == "fid":
                digest.update(b"/first")
            path = self.cache_dir / f"{kind}-{digest.hexdigest()}.npz"
            # Whether there is a cache is what the first process sees: others may have other disks.
            kept = load_fits(path) if self.processes.is_first else None
            packed = [] if kept is None else [kept[0].reference, *kept[0].parts(), *kept[1].parts()]
            packed = exchange(packed, 0, self.processes, self.device)
            fits = _fits(packed) if packed else self._fit_halves(kind)
            if not packed and self.processes.is_first:
                save_fits(path, fits)
            self._fits[kind] = fit_to(fits[0], self.device), fit_to(fits[1], self.device)
        return self._fits[kind]

    def _fit_halves(self, kind: str) -> tuple[GaussianFit, GaussianFit]:
        network, halves = self._network(kind), self.halves(kind)

        def center(_: range, tell: Callable[[int], None]) -> list[Tensor]:
            return [network(next(self.real_batches(halves[0][:1], kind)))[0].double()]

        ((reference,),) = in_shards(
            1, center, self.processes, self.device, f"Measuring real images for {kind}"
        )
        fits = []
        for half in halves:

            def work(
                part: range, tell: Callable[[int], None], half: numpy.ndarray = half
            ) -> list[Tensor]:
                fit = GaussianFit.empty(reference)
                for images in self.real_batches(half[part.start : part.stop], kind):
                    fit.add(network(images))
                    tell(len(images))
                return fit.parts()

            whole = GaussianFit.empty(reference)
            text = f"Measuring real images for {kind}, half {len(fits) + 1} of 2"
            for count, total, outer in in_shards(
                len(half), work, self.processes, self.device, text
            ):
                whole = whole.merge(GaussianFit(int(count), total, outer, reference))
            fits.append(whole)
        return fits[0], fits[1]

    def _real_patches(self) -> tuple[swd.PatchSet, dict[int, float]]:
        """Return the patches of the reals and the floor: half against half."""
        if self._patches is None:
            # Fewer images than the whole set are enough, and the order is random already.
            halves = [half[: SWD_IMAGES // 2] for half in self.halves("swd")]
            sets = [(sum(len(half) for half in halves), self.seed)]
            sets += [(len(half), self.seed + 1 + number) for number, half in enumerate(halves)]
            whole, first, second = (swd.PatchSet(*numbers) for numbers in sets)
            parts = first, second
            for number, half in enumerate(halves):

                def work(
                    part: range,
                    tell: Callable[[int], None],
                    number: int = number,
                    half: numpy.ndarray = half,
                ) -> list[Tensor]:
                    mine, at = [swd.PatchSet(*sets[0]), swd.PatchSet(*sets[1 + number])], part.start
                    before = number * len(halves[0])
                    for images in self.real_batches(half[part.start : part.stop], "swd"):
                        mine[0].add(images, before + at)
                        mine[1].add(images, at)
                        at += len(images)
                        tell(len(images))
                    return [tensor for patches in mine for tensor in _pack(patches)]

                text = f"Measuring real images for swd, half {number + 1} of 2"
                for tensors in in_shards(len(half), work, self.processes, self.device, text):
                    both = {"whole": whole, "half": parts[number]}
                    _add_packed(both, "half", _add_packed(both, "whole", tensors))
            self._patches = whole, swd.compare(first, second, self.seed)
        return self._patches

    def real_batches(
        self, indices: Sequence[int] | numpy.ndarray, kind: str = "frd"
    ) -> Iterator[Tensor]:
        """Yield the data set's images as metrics see them, uint8 [b, 3, H, W] on the device."""
        dataset = self.reals(kind)
        jobs = (
            functools.partial(_read, dataset, indices[start : start + self.batch])
            for start in range(0, len(indices), self.batch)
        )
        with ReadAhead(jobs, size=4 * self.batch * dataset.resolution**2) as batches:
            yield from map(self._composite, batches)

    def _composite(self, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        images = torch.stack([torch.as_tensor(rgb) for rgb, _ in pairs]).to(self.device)
        if self.background is not None:
            alpha = (
                torch.stack([torch.as_tensor(alpha) for _, alpha in pairs]).to(self.device).float()
                / 255
            )
            behind = torch.tensor(list(self.background), device=self.device).reshape(3, 1, 1) * 255
            images = (images * alpha + behind * (1 - alpha)).round().to(torch.uint8)
        return images


def _read(
    dataset: ImageDataset, indices: Sequence[int] | numpy.ndarray
) -> list[tuple[Tensor, Tensor]]:
    return [dataset.get(int(index))[:2] for index in indices]


def _pack(measured: "swd.PatchSet | GaussianFit") -> list[Tensor]:
    """Their tensors behind the number of them."""
    parts = measured.parts()
    return [torch.tensor(len(parts)), *parts]


def _add_packed(measured: dict, name: str, tensors: list[Tensor]) -> list[Tensor]:
    """Add the first of the packed ones to ``measured[name]`` and return the others."""
    count = int(tensors[0])
    parts, rest = tensors[1 : 1 + count], tensors[1 + count :]
    if isinstance(measured[name], GaussianFit):
        number, total, outer = parts
        fit = measured[name]
        measured[name] = fit.merge(GaussianFit(int(number), total, outer, fit.reference))
    else:
        measured[name].extend(parts)
    return rest


def _fits(packed: list[Tensor]) -> tuple[GaussianFit, GaussianFit]:
    reference, *sums = packed
    first, second = (
        GaussianFit(int(count), total, outer, reference)
        for count, total, outer in (sums[:3], sums[3:])
    )
    return first, second


def metric_record(
    name: str, results: dict[str, float], seconds: float, snapshot: str, num_gpus: int
) -> dict[str, Any]:
    """Return a line of ``metric-<name>.jsonl``."""
    return {
        "results": results,
        "metric": name,
        "total_time": seconds,
        "total_time_str": format_time(seconds),
        "num_gpus": num_gpus,
        "snapshot": snapshot,
        "timestamp": time.time(),
    }


def write_metric(record: dict[str, Any], run_dir: str | Path) -> Path:
    """Append a record to ``metric-<name>.jsonl`` in the run folder and return that file."""
    path = Path(run_dir) / f"metric-{record['metric']}.jsonl"
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{path} could not be written ({reason}); free space or choose another folder."
        ) from error
    return path


def _mean(levels: dict[int, float]) -> float:
    return sum(levels.values()) / len(levels)


def fit_to(fit: GaussianFit, device: torch.device) -> GaussianFit:
    """Move a fit to a device."""
    return GaussianFit(
        fit.count, fit.total.to(device), fit.outer.to(device), fit.reference.to(device)
    )
