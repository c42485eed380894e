"""Distances against closed forms, and in the right order for ever worse images."""

import json
import socket
import warnings
from dataclasses import dataclass, field, replace

import numpy
import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from helpers.small_network import small_network
from helpers.weight_files import trusted, write_lite

from gghead.cameras import Cameras
from gghead.perceptual import load as load_module
from gghead.perceptual import weights
from gghead.perceptual.efficientnet_lite import LITE0
from gghead.torch_utils import distributed
from gghead.torch_utils.distributed import Processes
from gghead.torch_utils.errors import UserError
from gghead.training.metrics import MetricSet, parse_metric, swd, work_shards, write_metric
from gghead.training.metrics.features import InceptionFeatures, LiteFeatures, RandomFeatures
from gghead.training.metrics.frechet import GaussianFit, distance, frechet_distance
from gghead.training.metrics.sampler import Draw, ModelSampler


def faces(count: int, seed: int, size: int = 32) -> torch.Tensor:
    """Crude faces of varying color, size and place, uint8 [N, 3, S, S]."""
    random = numpy.random.RandomState(seed)
    y, x = numpy.mgrid[:size, :size] / size - 0.5
    images = []
    for _ in range(count):
        skin, back = random.uniform(0.3, 0.9, (3, 1, 1)), random.uniform(0, 1, (3, 1, 1))
        dx, dy, radius = (
            random.uniform(-0.05, 0.05),
            random.uniform(-0.05, 0.05),
            random.uniform(0.28, 0.38),
        )
        head = numpy.hypot(x - dx, (y - dy) * 0.8) < radius
        eyes = numpy.hypot(numpy.abs(x - dx) - radius * 0.4, y - dy + 0.06) < 0.05
        image = (
            numpy.where(head, skin, back) * numpy.where(eyes, 0.2, 1)
            + random.randn(3, size, size) * 0.02
        )
        images.append(image.clip(0, 1) * 255)
    return torch.from_numpy(numpy.stack(images)).round().to(torch.uint8)


@dataclass
class Faces:
    """Stands in for gghead.data.ImageDataset."""

    images: torch.Tensor
    has_masks: bool = True
    backdrop: torch.Tensor | None = None
    path: str = "faces"
    resolution: int = 32
    reads: int = 0
    labels: torch.Tensor = field(init=False)

    def __post_init__(self):
        self.labels = torch.zeros(len(self.images), 25)

    def __len__(self):
        return len(self.images)

    def name(self, index):
        return f"{index:08d}.png"

    def get(self, index):
        self.reads += 1
        return (
            self.images[index],
            torch.full((1, 32, 32), 255, dtype=torch.uint8),
            self.labels[index],
        )


def sampler(images):
    def sample(draw):
        for start in range(draw.part.start, draw.part.stop, draw.batch):
            index = torch.arange(start, min(start + draw.batch, draw.part.stop)) % len(images)
            yield images[index]

    return sample


# --------------------------------------------------------------------------------------------------
# Fréchet


def test_frechet_of_diagonal_gaussians():
    a, b = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([4.0, 1.0, 0.0])
    mean = torch.tensor([0.0, 3.0, 0.0])
    expected = 9 + (a.sqrt() - b.sqrt()).square().sum()
    assert frechet_distance(mean, torch.diag(a), 0 * mean, torch.diag(b)) == pytest.approx(
        float(expected)
    )


def test_frechet_agrees_with_the_general_matrix_root():
    from scipy.linalg import sqrtm

    random = numpy.random.RandomState(0)
    a, b = (m @ m.T for m in random.randn(2, 6, 6))
    mean_a, mean_b = random.randn(2, 6)
    expected = ((mean_a - mean_b) ** 2).sum() + numpy.trace(a + b - 2 * sqrtm(a @ b)).real
    args = (torch.from_numpy(value) for value in (mean_a, a, mean_b, b))
    assert frechet_distance(*args) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_equal_and_degenerate_gaussians():
    features = torch.randn(5, 20)  # fewer than dimensions: the covariance is singular
    fit = GaussianFit.of(features)
    assert distance(fit, fit) == pytest.approx(0, abs=1e-4)
    shifted = GaussianFit.of(features + 2)
    assert distance(fit, shifted) == pytest.approx(80, rel=1e-4)
    assert distance(fit, shifted) == pytest.approx(distance(shifted, fit), rel=1e-6)


def test_fit_is_that_of_the_whole_set():
    features = torch.randn(50, 4) + 100
    fit = GaussianFit.empty(features[0])
    for part in features.split(7):
        fit.add(part)
    torch.testing.assert_close(fit.mean, features.double().mean(0))
    torch.testing.assert_close(fit.covariance, torch.cov(features.double().T))
    parts = [GaussianFit.empty(features[0]) for _ in range(2)]
    parts[0].add(features[:20])
    parts[1].add(features[20:])
    torch.testing.assert_close(parts[0].merge(parts[1]).covariance, fit.covariance)
    with pytest.raises(ValueError, match="at least 2"):
        GaussianFit.of(features[:1]).covariance  # noqa: B018
    with pytest.raises(ValueError, match="reference"):
        fit.merge(GaussianFit.of(features[5:]))


# --------------------------------------------------------------------------------------------------
# Features

GOLDEN = [0.875672, -0.136471, 0.884441, 2.513636, 0.059506, 1.115225, -4.059949, 0.113515]


def test_features_are_those_of_version_one():
    network = RandomFeatures()
    images = torch.arange(2 * 3 * 32 * 32).reshape(2, 3, 32, 32).remainder(251).to(torch.uint8)
    features = network(images)
    assert features.shape == (2, network.dims) == (2, 264)
    # Golden numbers: if they change, every published frd changes, so the version must change as
    # well.
    golden = torch.tensor(GOLDEN)
    torch.testing.assert_close(
        features[0, [0, 20, 40, 60, 100, 150, 200, 263]], golden, atol=2e-4, rtol=1e-3
    )


def test_features_belong_to_an_image_alone_and_leave_the_global_generator():
    before = torch.random.get_rng_state()
    network, images = RandomFeatures(), faces(4, 0)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), atol=1e-5, rtol=1e-5)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_features_of_floats_and_bytes_agree():
    network, images = RandomFeatures(), faces(2, 0)
    torch.testing.assert_close(network(images.float() / 127.5 - 1), network(images))


@pytest.mark.parametrize("size", [36, 64, 320])
def test_features_at_any_size(size):
    assert RandomFeatures()(torch.zeros(1, 3, size, size)).isfinite().all()


def test_features_refuse_tiny_images():
    with pytest.raises(UserError, match="at least 32"):
        RandomFeatures()(torch.zeros(1, 3, 16, 16))


# --------------------------------------------------------------------------------------------------
# Sliced Wasserstein


def test_pyramid_adds_up_again():
    images = torch.rand(2, 3, 64, 64)
    fine, middle, coarse = swd.laplacian_pyramid(images)
    assert [level.shape[2] for level in (fine, middle, coarse)] == [64, 32, 16]

    def up(level):
        spread = level.new_zeros(*level.shape[:2], 2 * level.shape[2], 2 * level.shape[3])
        spread[:, :, ::2, ::2] = level * 4
        return swd._blur(spread)

    torch.testing.assert_close(fine + up(middle + up(coarse)), images, atol=1e-5, rtol=0)
    flat = swd.laplacian_pyramid(torch.full((1, 3, 32, 32), 0.5))
    assert flat[0].abs()[..., 4:-4, 4:-4].max() < 1e-6


def test_wasserstein_of_shifted_sets_is_the_mean_projected_shift():
    real = torch.randn(500, 8)
    shift = torch.zeros(8)
    shift[3] = 2.0
    axes = numpy.random.RandomState(0).randn(8, 128)
    expected = 2 * numpy.abs(axes[3] / numpy.linalg.norm(axes, axis=0)).mean()
    assert swd.sliced_wasserstein(real, real + shift) == pytest.approx(expected, rel=1e-4)
    assert swd.sliced_wasserstein(real, real[torch.randperm(500)]) == pytest.approx(0, abs=1e-6)


def test_patch_sets_have_equal_size_whatever_the_images():
    for count in (3, 10):
        patches = swd.PatchSet(count, patches=100)
        for part in faces(count, 0).split(2):
            patches.add(part)
        assert {size: patches.get(size).shape for size in patches.levels} == {
            32: (100, 3, 7, 7),
            16: (100, 3, 7, 7),
        }


# --------------------------------------------------------------------------------------------------
# Both, as named metrics


@pytest.fixture
def small_patches(monkeypatch):
    monkeypatch.setattr(swd.PatchSet.__init__, "__defaults__", (0, 4096))


def blurred(images, times):
    images = images.float()
    for _ in range(times):
        images = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    return images.round().to(torch.uint8)


def noisy(images, strength):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * strength
    return (images + noise).clamp(0, 255).to(torch.uint8)


def squeezed(images, width):
    thin = F.interpolate(images.float(), (32, width), mode="bilinear", antialias=True)
    pad = (32 - width) // 2
    return F.pad(thin, (pad, 32 - width - pad, 0, 0), mode="replicate").round().to(torch.uint8)


def collapsed(images, modes):
    return images[torch.arange(len(images)) % modes]


@pytest.mark.parametrize(
    "damage",
    [
        [(blurred, 1), (blurred, 2), (blurred, 5)],
        [(noisy, 10), (noisy, 25), (noisy, 60)],
        [(squeezed, 28), (squeezed, 24), (squeezed, 18)],
        [(collapsed, 30), (collapsed, 8), (collapsed, 1)],
    ],
    ids=["blur", "noise", "squeeze", "modes"],
)
def test_distances_rise_with_the_damage(damage, tmp_path, small_patches):
    metrics = MetricSet(Faces(faces(300, 0)), "frd300,swd300", cache_dir=tmp_path)
    fresh = faces(300, 1)
    clean = results(metrics.evaluate(sampler(fresh)))
    assert clean["frd300"] < 1.3 * clean["frd300_floor"]
    assert clean["swd300"] < 2 * clean["swd300_floor"]
    damaged = [results(metrics.evaluate(sampler(change(fresh, much)))) for change, much in damage]
    for name in ("frd300", "swd300"):
        row = [values[name] for values in damaged]
        assert row == sorted(row)
        assert row[0] > clean[name] and row[-1] > 3 * clean[f"{name}_floor"]


def results(records):
    return {name: value for record in records for name, value in record["results"].items()}


def test_records_have_stylegans_form_and_are_appended(tmp_path, small_patches):
    metrics = MetricSet(Faces(faces(40, 0)), ["frd20", "swd20"], cache_dir=tmp_path)
    records = metrics.evaluate(
        sampler(faces(20, 1)), snapshot="network-snapshot-000004.safetensors"
    )
    for record in records * 2:
        path = write_metric(record, tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert path.name == "metric-swd20.jsonl" and len(lines) == 2
    assert set(lines[0]) == {
        "results",
        "metric",
        "total_time",
        "total_time_str",
        "num_gpus",
        "snapshot",
        "timestamp",
    }
    assert set(lines[0]["results"]) == {"swd20", "swd20_floor", "swd20_32px", "swd20_16px"}
    assert metrics.floors() == {
        "frd20": records[0]["results"]["frd20_floor"],
        "swd20": records[1]["results"]["swd20_floor"],
    }


def test_a_metric_does_not_depend_on_batches_or_company(tmp_path, small_patches):
    dataset, fakes = Faces(faces(40, 0)), faces(30, 1)
    one = results(
        MetricSet(dataset, "frd20,swd20,frd30", cache_dir=tmp_path, batch=7).evaluate(
            sampler(fakes)
        )
    )
    other = results(
        MetricSet(dataset, "frd20", cache_dir=tmp_path, batch=20).evaluate(sampler(fakes))
    )
    assert other["frd20"] == pytest.approx(one["frd20"], rel=1e-5)
    assert one["frd30"] != one["frd20"]


def test_reals_are_read_once_and_again_when_they_changed(tmp_path):
    dataset = Faces(faces(20, 0))
    first = MetricSet(dataset, "frd20", cache_dir=tmp_path).floors()
    assert dataset.reads == 21  # one of them also for the place that sums are centered on
    assert MetricSet(dataset, "frd20", cache_dir=tmp_path).floors() == pytest.approx(first)
    assert dataset.reads == 21
    MetricSet(dataset, "frd20", cache_dir=tmp_path, background=(1, 1, 1)).floors()
    assert dataset.reads == 42
    dataset.labels[3, 3] = 1
    MetricSet(dataset, "frd20", cache_dir=tmp_path).floors()
    assert dataset.reads == 63


def test_a_damaged_cache_is_said_and_rebuilt(tmp_path):
    first = MetricSet(Faces(faces(20, 0)), "frd20", cache_dir=tmp_path).floors()
    (cached,) = tmp_path.iterdir()
    cached.write_bytes(cached.read_bytes()[:200])
    with pytest.warns(UserWarning, match="damaged"):
        assert MetricSet(Faces(faces(20, 0)), "frd20", cache_dir=tmp_path).floors() == first


def test_background_goes_behind_the_mask(tmp_path):
    dataset = Faces(faces(4, 0))
    dataset.get = lambda index: (
        dataset.images[index],
        torch.zeros(1, 32, 32, dtype=torch.uint8),
        None,
    )
    metrics = MetricSet(dataset, "frd4", cache_dir=tmp_path, background=(1.0, 0.0, 0.5))
    (batch,) = metrics.real_batches([0, 1])
    assert (
        batch[:, 0].min() == 255
        and batch[:, 1].max() == 0
        and batch[:, 2].unique().tolist() == [128]
    )


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("frd2k", "frd", 2000),
        ("swd", "swd", 2048),
        ("frd500", "frd", 500),
        ("swd4k", "swd", 4000),
        ("fid50k", "fid", 50000),
        ("fid50k_full", "fid_full", 50000),
        ("fid64_full", "fid_full", 64),
        ("fd2k", "fd", 2000),
    ],
)
def test_names(name, kind, count):
    metric = parse_metric(name)
    assert (metric.name, metric.kind, metric.images) == (name, kind, count)


@pytest.mark.parametrize(
    "name",
    [
        "frd",
        "fid",
        "frd0",
        "frd1",
        "is50k",
        "swdk",
        "",
        "frd2k_full",
        "swd_full",
        "fid_full",
        "fid50k_whole",
        "fd",
        "fd2k_full",
    ],
)
def test_unknown_names_are_refused(name):
    with pytest.raises(UserError, match="metric"):
        parse_metric(name)


def test_none_needs_nothing():
    metrics = MetricSet(Faces(faces(4, 0)), "none")
    assert metrics.evaluate(sampler(faces(1, 0))) == []


def test_faults_are_named(tmp_path):
    with pytest.raises(UserError, match="`feature_net=FILE`"):
        MetricSet(Faces(faces(4, 0)), "fid20")
    with pytest.raises(UserError, match="at least 4"):
        MetricSet(Faces(faces(3, 0)), "frd20")
    with pytest.raises(UserError, match="masks"):
        MetricSet(Faces(faces(4, 0), has_masks=False), "frd20", background=(1, 1, 1))
    with pytest.raises(ValueError, match="sampler gave 1 "):
        MetricSet(Faces(faces(4, 0)), "frd20", cache_dir=tmp_path).evaluate(
            lambda draw: [faces(1, 0)]
        )


@pytest.mark.parametrize(
    ("names", "network", "sentence"),
    [
        ("fd20", None, "fd20 needs `feature_net=efficientnet-lite2"),
        ("fd20", "inception.pt", "fd20 needs `feature_net=efficientnet-lite2"),
        ("fid20", "efficientnet-lite2:weights.whl", "a TorchScript Inception"),
        ("fid20,fd8", "inception.pt", "fd8 and fid20 compare features of two networks"),
    ],
)
def test_every_distance_asks_for_its_own_network(names, network, sentence):
    with pytest.raises(UserError, match=sentence):
        MetricSet(Faces(faces(4, 0)), names, feature_net=network)


@pytest.fixture
def lite(tmp_path, monkeypatch):
    """EfficientNet-Lite0 with random weights, trained on small images, as an option names it."""
    small = load_module._lite(replace(LITE0, trained_at=32), weights.LITE0)
    monkeypatch.setitem(load_module._KINDS, "efficientnet-lite0", small)
    return f"efficientnet-lite0:{trusted(write_lite(tmp_path)[0])}"


def test_lite_features_are_the_means_of_the_last_bottleneck(lite):
    network, images = LiteFeatures(lite), faces(20, 0)
    assert network.name.startswith("fd_v1 of EfficientNet-Lite0 features (lite0.pth ")
    found = network(images)
    last = network.backbone(images.float() / 127.5 - 1)[-1]
    torch.testing.assert_close(found, last.detach().mean((2, 3)))
    torch.testing.assert_close(network(images.float() / 127.5 - 1 + 1e-4), found)  # as bytes
    # whatever its size, a smooth image is seen as the same one
    coarse = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 255
    small, large = (
        network(F.interpolate(coarse, (side, side), mode="bicubic").round().clamp(0, 255).byte())
        for side in (32, 128)
    )
    assert float((small - large).square().mean()) < 0.02 * float(small.var(0).mean())
    with pytest.raises(UserError, match="at least 16 pixels"):
        network(images[:, :, :8, :8])


def test_fd_is_none_to_the_set_itself_small_to_its_like_and_large_to_noise(tmp_path, lite):
    reals = faces(40, 0)
    metrics = MetricSet(Faces(reals), "fd40", feature_net=lite, cache_dir=tmp_path)
    dark = torch.from_numpy(numpy.random.RandomState(0).randint(0, 30, reals.shape)).byte()
    found = [metrics.evaluate(sampler(images))[0] for images in (reals, faces(40, 1), dark)]
    fd = [record["results"]["fd40"] for record in found]
    assert abs(fd[0]) < 1e-3 and 0 < fd[1] < 0.5 * fd[2]
    floor = found[0]["results"]["fd40_floor"]
    assert 0 < floor < 0.5 * fd[2] and floor == metrics.floors()["fd40"]
    assert found[0]["feature_net"].startswith("fd_v1 of EfficientNet-Lite0")


class Mean(torch.nn.Module):
    """Stands in for Inception: the mean color, or nothing useful without ``return_features``."""

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        value = images.float().mean((2, 3))
        return value if return_features else value * 0


@pytest.fixture
def feature_net(tmp_path):
    path = tmp_path / "inception.pt"
    torch.jit.script(Mean()).save(str(path))
    return path


def stylegans_fid(reals, fakes):
    """Means and covariances over all images, divided by their number, in numpy's float64; no code
    is shared."""
    from scipy.linalg import sqrtm

    (m, a), (n, b) = (
        (x.mean(0), numpy.cov(x.T, bias=True))
        for x in (images.numpy().astype(numpy.float64).mean((2, 3)) for images in (reals, fakes))
    )
    return ((m - n) ** 2).sum() + numpy.trace(a + b - 2 * sqrtm(a @ b)).real


# old, and so are everyone's Inception files
torchscript = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@torchscript
def test_a_users_network_gives_fid(tmp_path, feature_net):
    metrics = MetricSet(
        Faces(faces(40, 0)), "fid20_full,fid20", feature_net=feature_net, cache_dir=tmp_path
    )
    values = results(metrics.evaluate(sampler(faces(20, 1))))
    expected = stylegans_fid(faces(40, 0), faces(20, 1))
    assert values["fid20_full"] == pytest.approx(expected, rel=1e-5)
    # here nothing is mirrored, limited or left out
    assert values["fid20"] == pytest.approx(expected, rel=1e-5)
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(UserError, match="text.pt"):
        InceptionFeatures(tmp_path / "text.pt")


@torchscript
def test_full_fid_looks_at_all_files_unmirrored_and_the_older_ones_at_the_first_fifty_thousand(
    tmp_path, feature_net, monkeypatch
):
    monkeypatch.setattr("gghead.training.metrics.evaluate.MAX_REALS", 24)
    files, fakes = faces(40, 0), faces(30, 1)
    mirrored, full = Faces(torch.cat([files, files.flip(-1)])), Faces(files, path="full")
    mirrored.labels[:], full.labels[:] = 1, 2
    metrics = MetricSet(
        mirrored, "frd30,fid30,fid30_full", full=full, feature_net=feature_net, cache_dir=tmp_path
    )
    asked = []

    def sample(draw):
        asked.append(draw)
        return sampler(fakes)(draw)

    values = results(metrics.evaluate(sample))
    assert values["fid30_full"] == pytest.approx(stylegans_fid(files, fakes), rel=1e-5)
    assert values["fid30"] == pytest.approx(stylegans_fid(files[:24], fakes), rel=1e-5)
    by_noise = {
        (draw.noise_mode, None if draw.labels is None else float(draw.labels[0, 0]))
        for draw in asked
    }
    assert by_noise == {("const", None), ("random", None), ("random", 2.0)}
    assert sum(map(len, metrics.halves("frd"))) == 24


def test_random_noise_is_fresh_for_every_image_and_repeats_with_the_seed():
    model = small_network()
    labels = torch.cat([Cameras.orbit(0.0).label()] * 4)

    def drawn(mode, seed=0, part=range(0, 4)):
        sample = ModelSampler(model, labels, seed)
        sample.model = SameLatent(model)
        return torch.cat(list(sample(Draw(4, part, 4, mode))))

    const, random = drawn("const"), drawn("random")
    # the same latent and camera: the same image
    assert float((const - const[:1]).abs().max()) < 1e-5
    assert all(
        float((random[i] - random[j]).abs().max()) > 0.01 for i in range(4) for j in range(i)
    )
    assert torch.equal(random, drawn("random")) and not torch.equal(random, drawn("random", seed=1))


class SameLatent:
    """A network that hears the same latent for every image."""

    def __init__(self, model):
        self.model, self.device, self.z_dim, self.c_dim, self.images = (
            model,
            model.device,
            model.z_dim,
            0,
            model.images,
        )

    def mapping(self, z, c, psi):
        return self.model.mapping(torch.zeros_like(z), c, psi)


def test_parts_of_a_set_are_the_set():
    sample = ModelSampler(small_network(), Cameras.orbit(torch.linspace(-0.5, 0.5, 5)).label())
    whole = torch.cat(list(sample(Draw(11, range(11), 4))))
    parts = [
        torch.cat(list(sample(Draw(11, part, 4))))
        for part in (range(0, 3), range(3, 9), range(9, 11))
    ]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


# --------------------------------------------------------------------------------------------------
# Several processes


def measured(cache, feature_net, processes, breaks=()):
    """Results of all kinds of metrics on a small network, how often images were read, and a
    second set's reads."""
    work_shards.SHARD, swd.PatchSet.__init__.__defaults__ = 7, (0, 512)
    dataset = Faces(faces(30, 0))
    sample = ModelSampler(
        small_network(image_size=32), Cameras.orbit(torch.linspace(-0.5, 0.5, 5)).label()
    )
    options = dict(feature_net=feature_net, cache_dir=cache, batch=4, processes=processes)
    values = results(MetricSet(dataset, "frd20,swd24,fid25_full,fid10", **options).evaluate(sample))
    reads, dataset.reads = dataset.reads, 0
    MetricSet(dataset, "frd20,fid25_full", **options).prepare()
    again = dataset.reads
    dataset.labels[0] = 5  # another data set
    if processes.rank in breaks:
        dataset.get = lambda index: (_ for _ in ()).throw(UserError("image 3 is broken."))
    said = ""
    try:
        MetricSet(dataset, "frd20", **options).prepare()
    except UserError as error:
        said = str(error)
    return values, reads, again, said


def process(rank, ports, folder, feature_net, queue):
    """Measure as one of three processes, then the first two as two."""
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.set_num_threads(1)
    for world, port in ports.items():
        if rank < world:
            torch.distributed.init_process_group(
                "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world
            )
            cache = folder / f"of{world}" / f"disk{rank}"
            queue.put(
                (
                    world,
                    rank,
                    measured(cache, feature_net, Processes(rank, world), breaks=[world - 1]),
                )
            )
            torch.distributed.barrier()
            distributed.stop()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@torchscript
def test_two_and_three_processes_share_the_work_and_have_the_results_of_one(
    tmp_path, feature_net, monkeypatch
):
    monkeypatch.setattr(work_shards, "SHARD", 7)
    monkeypatch.setattr(swd.PatchSet.__init__, "__defaults__", (0, 512))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected, all_reads, again, said = measured(tmp_path / "one", feature_net, Processes())
    torch.set_num_threads(threads)
    assert again == 0 and said == ""
    context = mp.get_context("spawn")
    queue, ports = context.Queue(), {3: free_port(), 2: free_port()}
    workers = [
        context.Process(target=process, args=(rank, ports, tmp_path, feature_net, queue))
        for rank in range(3)
    ]
    for worker in workers:
        worker.start()
    found = {
        (world, rank): rest for world, rank, rest in (queue.get(timeout=120) for _ in range(5))
    }
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    for (world, rank), (values, reads, again, said) in found.items():
        # bit for bit: the same shards, added in the same order
        assert values == expected, (world, rank)
        assert reads < 0.75 * all_reads and again == 0  # only the first one's disk has the cache
        assert ("image 3 is broken" in said) == (rank == world - 1) and said
    for world in (2, 3):
        assert [path.name for path in (tmp_path / f"of{world}").iterdir()] == ["disk0"]


def test_patches_of_shards_are_those_of_the_whole_set():
    images = faces(9, 0)
    whole, joined = swd.PatchSet(9, seed=3, patches=90), swd.PatchSet(9, seed=3, patches=90)
    whole.add(images)
    for first in (0, 4, 7):
        part = swd.PatchSet(9, seed=3, patches=90)
        for start in range(first, {0: 4, 4: 7, 7: 9}[first], 2):
            part.add(images[start : min(start + 2, {0: 4, 4: 7, 7: 9}[first])], start)
        joined.extend(part.parts())
    for size in whole.levels:
        torch.testing.assert_close(joined.get(size), whole.get(size), rtol=0, atol=1e-6)


def test_patches_do_not_depend_on_how_batches_are_cut():
    images = torch.rand(8, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole, parts = swd.PatchSet(8, seed=3, patches=80), swd.PatchSet(8, seed=3, patches=80)
    whole.add(images)
    for part in images.split([3, 1, 4]):
        parts.add(part)
    for size in whole.levels:
        torch.testing.assert_close(whole.get(size), parts.get(size), rtol=0, atol=1e-6)
