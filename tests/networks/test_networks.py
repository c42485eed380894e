"""Networks: modulated convolution against its definition, the cut, discriminator growth,
truncation."""

import math

import pytest
import torch
import torch.nn.functional as F

from gghead.networks.discriminator import Discriminator, minibatch_std
from gghead.networks.dit import time_features
from gghead.networks.layers import Conv2d, SynthesisLayer, ToPlanes
from gghead.networks.mapping import MappingNetwork
from gghead.networks.synthesis import Decoder, Synthesis
from gghead.networks.uv_transformer import GuidedAttention
from gghead.torch_utils.ops.convolution import add_noise_and_bias, demodulation, modulated_conv2d
from gghead.torch_utils.ops.resample import blur, conv2d_down, downsample2x, fir_kernel, upsample2x

W_DIM = 8


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("noises", [1, 3])
def test_noise_and_bias_equal_the_broadcast_sum(layout, noises):
    y = (
        torch.randn(3, 5, 4, 6, dtype=torch.float64)
        .contiguous(memory_format=layout)
        .requires_grad_()
    )
    bias, strength = torch.randn(5, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    inputs = [y, bias.requires_grad_(), strength.requires_grad_()]
    noise = torch.randn(noises, 1, 4, 6, dtype=torch.float64)
    fast, slow = (
        add_noise_and_bias(y, bias, noise, strength),
        y + bias[:, None, None] + strength * noise,
    )
    torch.testing.assert_close(fast, slow)
    assert fast.is_contiguous(memory_format=layout)
    for a, b in zip(
        *(torch.autograd.grad(v.square().sum(), inputs) for v in (fast, slow)), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_conv_equals_per_sample_weights(up, demodulate):
    x = torch.randn(3, 5, 6, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 5, 3, 3, dtype=torch.float64, requires_grad=True)
    styles = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    kernel = fir_kernel().double() if up else None
    results, gradients = [], []
    for reference in (False, True):
        y = modulated_conv2d(
            x, weight, styles, demodulate=demodulate, kernel=kernel, gain=1.3, reference=reference
        )
        results.append(y)
        gradients.append(torch.autograd.grad(y.square().sum(), (x, weight, styles)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-11, atol=1e-11)
    for fast, slow in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_demodulation_sums_half_precision_in_float32(dtype):
    weight, styles = torch.randn(4, 5, 3, 3).to(dtype), torch.randn(3, 5).to(dtype)
    found = demodulation(weight, styles)
    assert found.dtype == torch.float32 and torch.equal(
        found, demodulation(weight.float(), styles.float())
    )


def network_in_float64(name):
    """A module in float64, or a function, and an input of it."""
    x = torch.rand(2, 4, dtype=torch.float64)
    if name == "mapping":
        mapping = MappingNetwork(4, 25, W_DIM, num_ws=3).double()
        return lambda z: mapping(z, torch.ones(2, 25), truncation_psi=0.5, truncation_cutoff=2), x
    if name == "time features":
        return lambda t: time_features(t / 1000), x[0]
    if name == "planes":
        layer = ToPlanes(4, 3, W_DIM).double()
        layer.weight.data.normal_()
        return lambda w: layer(torch.ones(2, 4, 2, 2, dtype=torch.float64), w), x.repeat(1, 2)
    if name == "discriminator":
        D = make_discriminator((8,)).double()
        return lambda i: D(i, torch.ones(1, 25), 1.0, torch.float64), torch.randn(
            1, 3, 8, 8, dtype=torch.float64
        )
    if name == "guided attention":
        attention = GuidedAttention(8, heads=2, source=6).double()
        return lambda s: attention(
            torch.ones(1, 2, 8).double(), s, torch.ones(1, 3, 2).double()
        ), torch.randn(1, 3, 2, 6, dtype=torch.float64)
    raise ValueError(name)


@pytest.mark.parametrize(
    "name", ["mapping", "time features", "planes", "discriminator", "guided attention"]
)
def test_float64_stays_float64(name):
    """Finite differences with steps of 1e-6 agree with the gradient only where nothing between is
    float32."""
    function, x = network_in_float64(name)
    assert function(x).dtype == torch.float64
    assert torch.autograd.gradcheck(function, x.requires_grad_())


def test_upsampling_keeps_constants_and_doubles():
    x = torch.full((1, 2, 4, 4), 0.7)
    torch.testing.assert_close(upsample2x(x), torch.full((1, 2, 8, 8), 0.7))
    torch.testing.assert_close(downsample2x(x, fir_kernel()), torch.full((1, 2, 2, 2), 0.7))


def test_bilinear_upsampling_is_the_fir_upsampling_inside():
    x = torch.randn(1, 1, 8, 8)
    stuffed = torch.zeros(1, 1, 16, 16)
    stuffed[:, :, ::2, ::2] = x
    expected = blur(F.pad(stuffed, (2, 1, 2, 1)), fir_kernel(), pad=0, gain=4.0)
    torch.testing.assert_close(upsample2x(x)[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2])


def test_strided_convolution_shape_and_filter():
    x = torch.randn(2, 3, 8, 8)
    for size in (1, 3):
        weight = torch.randn(4, 3, size, size)
        assert conv2d_down(x, weight, fir_kernel()).shape == (2, 4, 4, 4)
    # A checkerboard lies at the filter's zero, so nothing of it aliases into the interior.
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1.0
    y = conv2d_down(board.expand(1, 3, 8, 8), torch.ones(1, 3, 1, 1), fir_kernel())
    assert y[..., 1:-1, 1:-1].abs().max() < 1e-6


def test_synthesis_layer_has_unit_variance_and_noise_modes():
    layer = SynthesisLayer(64, 64, W_DIM, 16)
    x, w = torch.randn(4, 64, 16, 16), torch.zeros(4, W_DIM)
    y = layer(x, w, "none", None)
    assert float(y.detach().square().mean()) == pytest.approx(1.0, abs=0.15)
    layer.noise_strength.data.fill_(0.5)
    const = layer(x, w, "const", None)
    assert torch.equal(const, layer(x, w, "const", None)) and not torch.equal(const, y)
    draws = [layer(x, w, "random", torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    with pytest.raises(ValueError, match="noise_mode"):
        layer(x, w, "loud", None)


def test_generator_is_cut_at_the_latent():
    synthesis = Synthesis(W_DIM, resolution=8, cbase=128, cmax=16)
    decoder = Decoder(W_DIM, 8, 32, out_channels=5, cbase=128, cmax=16)
    ws = torch.randn(2, synthesis.num_ws + decoder.num_ws, W_DIM)
    z = synthesis(ws[:, : synthesis.num_ws])
    assert z.shape == (2, 16, 8, 8)
    planes = decoder(z, ws[:, synthesis.num_ws :])
    assert planes.shape == (2, 5, 32, 32) and planes.dtype == torch.float32
    assert torch.equal(planes, torch.zeros_like(planes))  # zero-initialized outputs
    planes.square().sum().backward()
    loss = (planes + torch.randn_like(planes)).square().sum()
    assert loss.isfinite()


def test_zero_initialized_planes_still_learn():
    decoder = Decoder(W_DIM, 8, 16, out_channels=3, cbase=128, cmax=16)
    planes = decoder(torch.randn(2, 16, 8, 8), torch.randn(2, decoder.num_ws, W_DIM))
    (planes * torch.randn_like(planes)).sum().backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in decoder.to_planes)


def test_sizes_of_the_official_256_generator():
    """num_ws is GGHead's 14 at 256 pixels, wherever the cut is."""
    for latent in (16, 64):
        synthesis, decoder = (
            Synthesis(W_DIM, latent, 64, 4),
            Decoder(W_DIM, latent, 256, 14, 1024, 4),
        )
        assert synthesis.num_ws + decoder.num_ws == 14


def test_mapping_truncates_towards_the_mean():
    mapping = MappingNetwork(4, 0, W_DIM, num_ws=6)
    z = torch.randn(3, 4)
    mapping.w_avg.copy_(torch.randn(W_DIM))
    full = mapping(z)
    half = mapping(z, truncation_psi=0.5)
    torch.testing.assert_close(half, (full + mapping.w_avg) / 2)
    cut = mapping(z, truncation_psi=0.5, truncation_cutoff=2)
    torch.testing.assert_close(cut[:, :2], half[:, :2])
    torch.testing.assert_close(cut[:, 2:], full[:, 2:])
    torch.testing.assert_close(mapping(z, truncation_psi=0.0), mapping.w_avg.expand(3, 6, -1))
    with pytest.raises(ValueError, match="z must have shape"):
        mapping(torch.randn(3, 5))


def test_mapping_uses_the_camera_and_tracks_the_mean():
    mapping = MappingNetwork(4, 25, W_DIM, num_ws=2)
    z, c = torch.randn(3, 4), torch.randn(3, 25)
    assert not torch.equal(mapping(z, c), mapping(z, c.roll(1, 0)))
    with pytest.raises(ValueError, match="conditioned on the camera"):
        mapping(z)
    mean = mapping(z, c, update_w_avg=True)[:, 0].mean(0)
    torch.testing.assert_close(mapping.w_avg, mean * (1 - mapping.w_avg_beta))


def test_minibatch_std_groups_are_consecutive():
    x = torch.randn(8, 3, 4, 4)
    whole = minibatch_std(x, 4)
    torch.testing.assert_close(whole, torch.cat([minibatch_std(x[:4], 4), minibatch_std(x[4:], 4)]))
    same = torch.ones(4, 3, 4, 4)
    assert minibatch_std(same, 4)[:, 3].max() < 1e-3


def make_discriminator(sizes=(16, 32), **options):
    return Discriminator(sizes, cbase=256, cmax=16, map_depth=1, **options)


def test_discriminator_depends_on_image_and_camera():
    D = make_discriminator((16,))
    images, c = torch.randn(4, 3, 16, 16), torch.randn(4, 25)
    logits = D(images, c)
    assert logits.shape == (4,)
    assert not torch.allclose(logits, D(images, c.roll(1, 0)))
    assert make_discriminator((16,), c_dim=0)(images, None).shape == (4,)
    with pytest.raises(ValueError, match="needs camera labels"):
        make_discriminator((16,), c_dim=3)(images, None)
    assert make_discriminator((16,), channels=4)(torch.randn(4, 4, 16, 16), c).shape == (4,)
    with pytest.raises(ValueError, match="takes images of"):
        D(torch.randn(4, 3, 8, 8), c)


def test_fade_in_starts_as_the_smaller_network_and_ends_grown():
    D = make_discriminator()
    images, c = torch.randn(4, 3, 32, 32), torch.randn(4, 25)
    small = D(downsample2x(images, D.fir), c)
    faded = [D(images, c, alpha=a) for a in (0.0, 0.5, 1.0)]
    torch.testing.assert_close(D(images, c), faded[2])
    # At alpha 0 the new block adds nothing: its weights get no gradient worth the name.
    grad = torch.autograd.grad(faded[0].sum(), D.blocks["32"].conv0.weight)[0]
    assert grad.abs().max() == 0
    assert not torch.allclose(faded[0], faded[2])
    torch.testing.assert_close(faded[0], small)


def test_r1_double_backward_matches_finite_differences():
    D = make_discriminator((8,), c_dim=0).double()
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64)

    def penalty(weight):
        x = image.clone().requires_grad_(True)
        logits = torch.func.functional_call(D, {"fc.weight": weight}, (x, None, 1.0, torch.float64))
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return gradient.square().sum()

    weight = D.fc.weight.detach().clone().requires_grad_(True)
    (analytic,) = torch.autograd.grad(penalty(weight), weight)
    direction, step = torch.randn_like(weight), 1e-4
    numeric = (penalty(weight + step * direction) - penalty(weight - step * direction)) / (2 * step)
    assert float((analytic * direction).sum().detach()) == pytest.approx(
        float(numeric.detach()), rel=1e-6
    )


def test_convolution_gain_is_folded_exactly():
    conv = Conv2d(4, 6, 3)
    conv.bias.data.normal_()
    x = torch.randn(2, 4, 5, 5)
    plain = F.conv2d(x, conv.weight / math.sqrt(36), conv.bias, padding=1)
    torch.testing.assert_close(conv(x), F.leaky_relu(plain, 0.2) * math.sqrt(2))
