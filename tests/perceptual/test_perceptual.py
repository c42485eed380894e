"""Perceptual distances against dense references in float64, and what every distance must keep."""

import pytest
import torch
from helpers.weight_files import (
    ALEXNET_LAYOUT,
    VGG16_LAYOUT,
    backbone_state,
    linear_state,
    lite_blocks,
    lite_state,
    spec,
    trusted,
    write_lite,
    write_weights,
)

from gghead.image_metrics import ImageLossConfig, image_loss
from gghead.networks.discriminator import Discriminator
from gghead.perceptual import (
    DiscriminatorDistance,
    GradientDistance,
    choose_distance,
    load_distance,
    load_metric,
)
from gghead.perceptual.distances import FeatureDistance
from gghead.perceptual.torchscript import ScriptDistance
from gghead.torch_utils.errors import UserError

OPTION = "--perceptual-net"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {kind: write_weights(folder, kind) for kind in ("vgg", "alex")}


@pytest.fixture(scope="module")
def distances(files, tmp_path_factory):
    lite, _ = write_lite(tmp_path_factory.mktemp("lite"))
    torch.manual_seed(0)
    discriminator = Discriminator((16, 32), cbase=256, cmax=16, map_depth=1).eval()
    return {
        "lpips-vgg": load_distance(spec("vgg", files["vgg"]), OPTION),
        "lpips-alex": load_distance(spec("alex", files["alex"]), OPTION),
        "vgg": load_distance(f"vgg:{trusted(files['vgg'][0])}", OPTION),
        "efficientnet-lite0": load_distance(f"efficientnet-lite0:{trusted(lite)}", OPTION),
        "gradient": load_distance("gradient", OPTION),
        "discriminator": DiscriminatorDistance(discriminator).freeze(),
    }


def images(seed=0, batch=2, size=(32, 32), dtype=torch.float32):
    random = torch.Generator().manual_seed(seed)
    first = torch.rand(batch, 3, *size, generator=random, dtype=torch.float64) * 2 - 1
    second = first + 0.3 * torch.randn(batch, 3, *size, generator=random, dtype=torch.float64)
    return first.to(dtype), second.clamp(-1, 1).to(dtype)


# --------------------------------------------------------------------------------------- references
def convolve(x, weight, bias, stride, padding):  # by its definition: windows times weights
    x = torch.nn.functional.pad(x, (padding,) * 4)
    size = weight.shape[-1]
    windows = x.unfold(2, size, stride).unfold(3, size, stride)
    return (
        torch.tensordot(windows, weight, ([1, 4, 5], [1, 2, 3])).movedim(-1, 1)
        + bias[:, None, None]
    )


def pool(x, size):
    return x.unfold(2, size, 2).unfold(3, size, 2).amax((-1, -2))


def features(kind, images):
    """The five feature maps in float64: images to [0, 1], ImageNet's normalization, layer by
    layer."""
    state = {name: value.double() for name, value in backbone_state(kind).items()}
    mean, deviation = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    x = (images.double() + 1) / 2 - torch.tensor(mean, dtype=torch.float64)[:, None, None]
    x = x / torch.tensor(deviation, dtype=torch.float64)[:, None, None]
    found = []
    for place, (index, *_) in enumerate(VGG16_LAYOUT if kind == "vgg" else ALEXNET_LAYOUT):
        if kind == "vgg":
            stride, padding, pooled, tap = (
                1,
                1,
                index in (5, 10, 17, 24),
                index in (2, 7, 14, 21, 28),
            )
        else:
            stride, padding, pooled, tap = (
                (4, 2, False, True)
                if not place
                else (1, (0, 2, 1, 1, 1)[place], index in (3, 6), True)
            )
        x = pool(x, 2 if kind == "vgg" else 3) if pooled else x
        x = convolve(
            x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], stride, padding
        ).relu()
        if tap:
            found.append(x)
    return found


def lpips_reference(kind, first, second):
    linear, total = linear_state(kind), 0.0
    for layer, (a, b) in enumerate(zip(features(kind, first), features(kind, second), strict=True)):
        a, b = (x / (x.norm(dim=1, keepdim=True) + 1e-10) for x in (a, b))
        weight = linear[f"lin{layer}.model.1.weight"].double()[0, :, 0, 0]
        total = total + torch.tensordot((a - b) ** 2, weight, ([1], [0])).mean((1, 2))
    return total


def same_padding(x, kernel, stride):  # as TensorFlow's documentation states it
    sides = []
    for size in x.shape[:1:-1]:
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return torch.nn.functional.pad(x, sides)


def lite_features(kind, images):
    """The five feature maps of EfficientNet-Lite in float64, norms unfolded, in units of their
    stated deviation."""
    state = {name: value.double() for name, value in lite_state(kind).items()}

    def layer(x, convolution, norm, stride=1, rectified=True):
        weight = state[f"{convolution}.weight"]
        x = same_padding(x, weight.shape[-1], stride)
        nothing = torch.zeros(1, dtype=torch.float64)
        if weight.shape[1] == 1 and x.shape[1] > 1:  # a channel at a time
            x = torch.cat(
                [
                    convolve(
                        x[:, channel : channel + 1],
                        weight[channel : channel + 1],
                        nothing,
                        stride,
                        0,
                    )
                    for channel in range(x.shape[1])
                ],
                1,
            )
        else:
            x = convolve(x, weight, nothing, stride, 0)
        mean, variance, gamma, beta = (
            state[f"{norm}.{name}"][:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        x = (x - mean) / (variance + 1e-3).sqrt() * gamma + beta
        return x.clamp(0, 6) if rectified else x

    x = layer(((images.double() + 1) * 127.5 - 127) / 128, "_conv_stem", "_bn0", 2)
    ends, variances = {}, {}
    for index, (stage, before, after, expansion, _, stride) in enumerate(lite_blocks(kind)):
        name, came = f"_blocks.{index}", x
        if expansion > 1:
            x = layer(x, f"{name}._expand_conv", f"{name}._bn0")
        x = layer(x, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        x = layer(x, f"{name}._project_conv", f"{name}._bn2", rectified=False)
        x = x + came if stride == 1 and before == after else x
        ends[stage] = x
        variances[stage] = variances.get(stage, 0) + state[f"{name}._bn2.weight"] ** 2
    return [ends[stage] / variances[stage].mean().sqrt() for stage in (0, 1, 2, 4, 6)]


@pytest.mark.parametrize(
    "kind, size", [("lite0", (37, 50)), ("lite1", (32, 34)), ("lite2", (36, 33))]
)
def test_efficientnet_lite_is_the_network_of_the_files(tmp_path, kind, size):
    distance = load_distance(
        f"efficientnet-{kind}:{trusted(write_lite(tmp_path, kind)[0])}", OPTION
    )
    pair = images(batch=1, size=size)
    wanted = [lite_features(kind, batch) for batch in pair]
    for batch, features in zip(pair, wanted, strict=True):
        for mine, true in zip(distance.backbone(batch), features, strict=True):
            torch.testing.assert_close(
                mine.double(), true, rtol=0, atol=2e-5 * float(true.abs().max())
            )
    assert [map.shape[2:] for map in wanted[0]] == [
        tuple(-(-side // (2 << layer)) for side in size) for layer in range(5)
    ]
    value = torch.stack([(a - b).abs().mean((1, 2, 3)) for a, b in zip(*wanted, strict=True)]).mean(
        0
    )
    torch.testing.assert_close(distance(*pair).double(), value, rtol=2e-5, atol=0)


@pytest.mark.parametrize("kind, size", [("vgg", (20, 33)), ("alex", (35, 47))])
def test_lpips_is_the_papers_formula(distances, kind, size):
    first, second = images(size=size)
    wanted = lpips_reference(kind, first, second)
    found = distances[f"lpips-{kind}"](first, second)
    assert found.shape == (2,) and found.dtype == torch.float32 and float(wanted.min()) > 0.05
    torch.testing.assert_close(found.double(), wanted, rtol=2e-5, atol=0)


def test_feature_distance_is_the_mean_difference(distances):
    first, second = images(size=(18, 24))
    pairs = zip(features("vgg", first), features("vgg", second), strict=True)
    wanted = torch.stack([(a - b).abs().mean((1, 2, 3)) for a, b in pairs]).mean(0)
    torch.testing.assert_close(distances["vgg"](first, second).double(), wanted, rtol=2e-5, atol=0)


def test_gradient_distance_is_the_image_loss_of_images_in_0_1(distances):
    first, second = images()
    wanted = image_loss((first + 1) / 2, (second + 1) / 2, ImageLossConfig())
    torch.testing.assert_close(distances["gradient"](first, second), wanted)


def test_discriminator_distance_is_the_mean_difference_of_its_activations(distances):
    first, second = images()
    discriminator = distances["discriminator"].discriminator
    hooked = []
    handles = [
        block.register_forward_hook(lambda *call: hooked.append(call[2]))
        for block in discriminator.blocks.values()
    ]
    with torch.no_grad():
        discriminator(first, torch.zeros(2, 25))
        discriminator(second, torch.zeros(2, 25))
    for handle in handles:
        handle.remove()
    half = len(hooked) // 2
    assert half == 3  # 32, 16, 8
    pairs = zip(hooked[:half], hooked[half:], strict=True)
    wanted = torch.stack([(a - b).abs().mean((1, 2, 3)) for a, b in pairs]).mean(0)
    torch.testing.assert_close(distances["discriminator"](first, second), wanted)


# ----------------------------------------------------------------------------------------- promises
@pytest.mark.parametrize(
    "kind", ["lpips-vgg", "lpips-alex", "vgg", "efficientnet-lite0", "gradient", "discriminator"]
)
def test_every_distance_keeps_its_promises(distances, kind):
    """0 for equal images, symmetric, one number per image whatever the batch, finite gradients
    downhill."""
    distance = distances[kind]
    first, second = images()
    value = distance(first, second)
    assert torch.equal(distance(first, first), torch.zeros(2)) and bool((value > 0).all())
    torch.testing.assert_close(distance(second, first), value)
    torch.testing.assert_close(distance(first[1:], second[1:]), value[1:])
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    moved = first.clone().requires_grad_(True)
    [gradient] = torch.autograd.grad(distance(moved, second).sum(), moved)
    assert bool(gradient.isfinite().all()) and float(gradient.abs().max()) > 0
    step = 1e-3 * gradient / gradient.abs().max()
    assert bool((distance(first - step, second) < value).all())
    [still] = torch.autograd.grad(distance(moved, first).sum(), moved)
    assert bool(still.isfinite().all())


def test_gradients_are_the_derivatives(files):
    distance = load_distance(spec("alex", files["alex"]), OPTION).double()
    first, second = images(batch=1, dtype=torch.float64)
    first.requires_grad_(True)
    [gradient] = torch.autograd.grad(distance(first, second).sum(), first)
    for seed in range(3):
        way = (
            torch.randn(
                first.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
            )
            * 1e-6
        )
        with torch.no_grad():
            change = (distance(first + way, second) - distance(first - way, second)) / 2
        assert float(change) == pytest.approx(float((gradient * way).sum()), rel=1e-5)


def test_dead_features_have_finite_gradients(files):
    """Places where all channels are zero have no direction: the root there must not make NaN, on
    the way back either, where the rectifiers would hide it."""
    distance = load_distance(spec("alex", files["alex"]), OPTION)
    with torch.no_grad():
        distance.backbone.features[0].bias.fill_(-100.0)
    first, second = images(batch=1)
    first.requires_grad_(True)
    assert float(distance.backbone(first.detach())[0].abs().max()) == 0
    with torch.autograd.set_detect_anomaly(True):
        [gradient] = torch.autograd.grad(distance(first, second).sum(), first)
    assert bool(gradient.isfinite().all())


def test_autocast_and_half_precision_images_give_nearly_the_same(distances):
    first, second = images()
    for kind in ("lpips-vgg", "vgg", "efficientnet-lite0"):
        wanted = distances[kind](first, second)
        with torch.autocast("cpu", torch.bfloat16):
            assert distances[kind](first, second).dtype == torch.float32
            torch.testing.assert_close(distances[kind](first, second), wanted, rtol=0.03, atol=0)
        torch.testing.assert_close(
            distances[kind](first.bfloat16(), second.bfloat16()), wanted, rtol=0.03, atol=0
        )


@pytest.mark.parametrize(
    "kind, wrong, sentence",
    [
        (
            "lpips-vgg",
            (1, 3, 15, 40),
            "needs images of at least 16x16 pixels, but these are 40x15",
        ),
        (
            "lpips-alex",
            (1, 3, 64, 30),
            "needs images of at least 31x31 pixels, but these are 30x64",
        ),
        ("vgg", (1, 1, 32, 32), r"compares two batches \[B, 3, H, W\]"),
        (
            "efficientnet-lite0",
            (1, 3, 31, 40),
            "needs images of at least 32x32 pixels, but these are 40x31",
        ),
        ("gradient", (1, 3, 32, 1), "at least 2x2"),
        ("discriminator", (1, 3, 48, 48), "square images of 16, 32 pixels"),
        ("discriminator", (1, 3, 32, 64), "but these are 64x32"),
    ],
)
def test_wrong_images_are_a_sentence(distances, kind, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        distances[kind](torch.zeros(wrong), torch.zeros(wrong))
    with pytest.raises(ValueError, match="have the shapes"):
        distances[kind](torch.zeros(2, 3, 32, 32), torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"in \[-1, 1\], but these are torch.uint8"):
        distances[kind](*torch.zeros(2, 1, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize("kind, size", [("lpips-vgg", 16), ("lpips-alex", 31)])
def test_the_smallest_images_still_work(distances, kind, size):
    assert bool(distances[kind](*images(size=(size, size))).isfinite().all())


def test_discriminators_halve_larger_images(distances):
    large = torch.nn.functional.interpolate(torch.cat(images()), scale_factor=4)
    first, second = large.chunk(2)
    assert float(distances["discriminator"](first, second).min()) > 0
    with_alpha = Discriminator((16,), channels=4, cbase=256, cmax=16, map_depth=1)
    with pytest.raises(UserError, match="looks at 4 channels"):
        DiscriminatorDistance(with_alpha)


# ------------------------------------------------------------------------------- what the user says
def test_the_choice_is_always_said(distances, files):
    distance, line = choose_distance(None, "--perceptual-net")
    assert isinstance(distance, GradientDistance)
    assert (
        line == "perceptual loss: differences of pixels and their gradients at several scales (no"
        " download), because --perceptual-net names no network"
    )
    chosen = spec("alex", files["alex"])
    distance, line = choose_distance(chosen, "--perceptual-net")
    assert line == f"perceptual loss: {distance.name}, because of --perceptual-net={chosen}"
    assert (
        distance.name.startswith("LPIPS AlexNet (alex-backbone.pth ")
        and "alex-linear.pth " in distance.name
    )
    assert (
        isinstance(distances["vgg"], FeatureDistance) and "VGG16 features" in distances["vgg"].name
    )


def test_only_lpips_is_reported_as_lpips(files):
    assert load_metric(spec("alex", files["alex"]), "--lpips-net").name.startswith("LPIPS AlexNet")
    for wrong in ("gradient", "vgg:x.pth", "discriminator:run"):
        with pytest.raises(UserError, match=f"--lpips-net={wrong} is no LPIPS"):
            load_metric(wrong, "--lpips-net")
    for wrong, sentence in (
        ("lpips", "neither a kind of distance"),
        ("gradient:x", "takes no file"),
        ("lpips-vgg:a,b,c", "names 3 files"),
        ("vgg:a,b", "from one"),
    ):
        with pytest.raises(UserError, match=sentence):
            load_distance(wrong, OPTION)


# -------------------------------------------------------------------------------------- TorchScript
class Mean(torch.nn.Module):
    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first - second).abs().mean()


class Embedding(torch.nn.Module):
    """The signature of NVIDIA's vgg16.pt."""

    def forward(
        self, img: torch.Tensor, resize_images: bool = True, return_lpips: bool = False
    ) -> torch.Tensor:
        return (img / 255 + float(resize_images) + float(not return_lpips)).flatten(1)


class Pooled(torch.nn.Module):
    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first - second).abs().mean(1)


# TorchScript is old, and so are people's networks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_networks_of_the_user(tmp_path):
    first, second = images()
    for module in (Mean(), Embedding(), Pooled()):
        torch.jit.script(module).save(str(tmp_path / f"{type(module).__name__}.pt"))
    mean, embedding, pooled = (
        load_distance(str(tmp_path / f"{name}.pt"), OPTION)
        for name in ("Mean", "Embedding", "Pooled")
    )
    assert isinstance(mean, ScriptDistance) and "Mean.pt" in mean.name
    # per image
    torch.testing.assert_close(mean(first, second), (first - second).abs().mean((1, 2, 3)))
    wanted = ((first - second) / 2).square().sum((1, 2, 3))
    torch.testing.assert_close(embedding(first, second), wanted, rtol=1e-4, atol=0)
    with pytest.raises(UserError, match="one number per image"):
        pooled(first, second)
    with pytest.raises(UserError, match="not the one given after #sha256="):
        load_distance(f"{tmp_path / 'Mean.pt'}#sha256={'0' * 64}", OPTION)
