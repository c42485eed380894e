"""The avatar model: blending against a loop, gradients, what the expression may change, clamping,
its file."""

import json

import pytest
import torch

import gghead
from gghead import checkpoints
from gghead.models.avatar import INITIAL_OPACITY, Avatar, blend, positional_encoding
from gghead.models.avatar_config import AvatarConfig
from gghead.torch_utils.errors import UserError

ABLATIONS = [
    {},
    {"blend": False},
    {"mlp": False},
    {"changes": "geometry"},
    {"changes": "everything"},
    {"sh_degree": 0},
    {"mlp": False, "blend": False},
    {"motion": "blendshapes"},
]


def small(count=7, seed=0, **options):
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) * 0.2
    config = AvatarConfig(**{"width": 3, "feature_dim": 4, "hidden": 8, "sh_degree": 1, **options})
    return Avatar(config, points, spacing=0.05, seed=seed)


def randomized(avatar, seed=1):
    """Every parameter away from its first value; the Gaussians stay where they are."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in avatar.named_parameters():
            if name not in ("means", "log_scales"):
                parameter += 0.3 * torch.randn(parameter.shape, generator=random)
    return avatar


def test_blending_is_the_sum_over_coefficients():
    random = torch.Generator().manual_seed(0)
    basis = torch.randn(3, 5, 4, generator=random, dtype=torch.float64)
    bias, expression = (
        torch.randn(n, 4 if n == 5 else 3, generator=random, dtype=torch.float64) for n in (5, 2)
    )
    expected = torch.zeros(2, 5, 4, dtype=torch.float64)
    for t in range(2):
        for n in range(5):
            for f in range(4):
                expected[t, n, f] = bias[n, f] + sum(
                    expression[t, b] * basis[b, n, f] for b in range(3)
                )
    torch.testing.assert_close(blend(basis, bias, expression), expected, rtol=1e-12, atol=1e-12)


def test_the_network_is_two_layers_on_features_and_encoded_mean():
    """What the model computes part by part, against one layer on the joined inputs."""
    avatar = randomized(small()).double()
    expression = torch.rand(2, 3, dtype=torch.float64)
    gaussians = avatar(expression)
    for t in range(2):
        features = blend(avatar.basis, avatar.bias, expression)[t]
        joined = torch.cat([features, positional_encoding(avatar.means, 4)], 1)
        raw = avatar.output(avatar.hidden(joined).relu())
        torch.testing.assert_close(gaussians.opacities[t], raw[:, -1].sigmoid())
        colors = (
            raw[:, :12].reshape(-1, 4, 3)
            * torch.tensor([1, 0.1, 0.1, 0.1], dtype=torch.float64)[:, None]
        )
        torch.testing.assert_close(gaussians.colors[t], colors)


def test_positional_encoding():
    x = torch.tensor([[0.1, -0.2, 0.3]], dtype=torch.float64)
    encoded = positional_encoding(x, 2)[0]
    expected = [
        x[0],
        (torch.pi * x[0]).sin(),
        (2 * torch.pi * x[0]).sin(),
        (torch.pi * x[0]).cos(),
        (2 * torch.pi * x[0]).cos(),
    ]
    torch.testing.assert_close(encoded, torch.cat(expected))


def test_gradients_of_basis_and_bias():
    avatar = randomized(small(count=3)).double()
    expression = torch.rand(1, 3, dtype=torch.float64)

    def colors(basis, bias):
        replaced = {"basis": basis, "bias": bias}
        gaussians = torch.func.functional_call(avatar, replaced, (expression,))
        return gaussians.colors.sin().sum() + gaussians.opacities.sum()

    inputs = [value.detach().requires_grad_() for value in (avatar.basis, avatar.bias)]
    assert torch.autograd.gradcheck(colors, inputs)


@pytest.mark.parametrize("options", ABLATIONS)
def test_at_the_start_the_expression_changes_nothing_but_can_be_learned(options):
    avatar = small(**options)
    first, second = torch.zeros(1, 3), torch.ones(1, 3)
    a, b = avatar(first), avatar(second)
    same = all(
        torch.equal(getattr(a, name), getattr(b, name))
        for name in ("means", "quats", "opacities", "colors")
    )
    # with no basis the network reads e itself
    expected = options.get("blend", True) or not options.get("mlp", True)
    assert same == expected
    assert torch.equal(a.scales, b.scales)
    weights = torch.randn(a.colors.shape, generator=torch.Generator().manual_seed(3))
    (b.opacities.sum() + b.means.sum() + (b.colors * weights).sum()).backward()
    if options.get("blend", True):
        assert avatar.basis.grad.abs().max() > 0
    assert avatar.bias.grad.abs().max() > 0


@pytest.mark.parametrize("options", ABLATIONS[:5])
def test_only_what_should_change_changes(options):
    avatar = randomized(small(**options))
    a, b = avatar(torch.zeros(1, 3)), avatar(torch.ones(1, 3))
    changes = options.get("changes", "appearance")
    assert torch.equal(a.colors, b.colors) == (changes == "geometry")
    assert torch.equal(a.opacities, b.opacities) == (changes == "geometry")
    assert torch.equal(a.means, b.means) == (changes == "appearance")
    assert torch.equal(a.quats, b.quats) == (changes == "appearance")
    assert torch.equal(a.scales, b.scales)
    a.validate()


@pytest.mark.parametrize("options", ABLATIONS[:5])
def test_bands_that_were_not_trained_color_nothing(options):
    avatar, expression = small(**{**options, "sh_degree": 2}), torch.rand(2, 3)
    assert not avatar(expression).colors[..., 1:, :].any()
    avatar(expression).colors[..., 1:, :].sum().backward()
    learned = (
        avatar.static
        if options.get("changes") == "geometry"
        else avatar.output.weight
        if options.get("mlp", True)
        else avatar.bias
    )
    assert learned.grad.any()


def test_initial_opacity_is_near_the_stated_one():
    opacities = small(count=200, hidden=64)(torch.zeros(1, 3)).opacities.detach()
    assert float(opacities.mean()) == pytest.approx(INITIAL_OPACITY, abs=0.05)


def test_the_mean_has_no_gradient_through_its_encoding():
    avatar = randomized(small())
    avatar(torch.rand(1, 3)).colors.sum().backward()
    assert avatar.means.grad is None or not avatar.means.grad.any()


def test_coefficients_are_clamped_to_what_was_seen():
    avatar = randomized(small())
    avatar.coefficient_min.fill_(0)
    avatar.coefficient_max.copy_(torch.tensor([1.0, 0.5, 1.0]))
    wild, tame = torch.tensor([[3.0, 0.7, -2.0]]), torch.tensor([[1.0, 0.5, 0.0]])
    assert torch.equal(avatar(wild).colors, avatar(tame).colors)
    assert not torch.equal(avatar(wild, clamp=False).colors, avatar(tame).colors)


def test_bands_left_out_are_the_first_bands():
    avatar, expression = randomized(small(sh_degree=3)), torch.rand(1, 3)
    full, part = avatar(expression), avatar(expression, sh_degree=1)
    assert part.sh_degree == 1 and torch.equal(part.colors, full.colors[..., :4, :])


@pytest.mark.parametrize("options", ABLATIONS)
def test_file_round_trip(options, tmp_path):
    avatar = randomized(small(coefficient_names=("a", "b", "c"), **options))
    avatar.coefficient_max.fill_(0.5)
    checkpoints.save(avatar, tmp_path / "avatar-000010.safetensors", done=10)
    again = gghead.load(tmp_path)
    assert again.config == avatar.config
    expression = torch.rand(2, 3)
    for name, value in avatar.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    # torch sums in another order without gradients
    for name in ("means", "quats", "scales", "opacities", "colors"):
        torch.testing.assert_close(
            getattr(again(expression), name), getattr(avatar(expression), name)
        )


def test_files_say_of_what_kind_they_are(tmp_path):
    path = tmp_path / "avatar-1.safetensors"
    checkpoints.save(small(), path)
    with pytest.raises(
        UserError, match="is an avatar of one person, but a generator of heads is needed here"
    ):
        gghead.load(path, kind="generator")
    with pytest.raises(
        UserError, match="is a generator of heads, but an avatar of one person is needed here"
    ):
        gghead.load("demo", kind="avatar")
    with pytest.raises(UserError, match="is an avatar"):
        checkpoints.read_info(path)


def test_files_from_elsewhere_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    path = tmp_path / "avatar.safetensors"
    checkpoints.save(small(), path)
    tensors = load_file(path)
    config = {"width": 3, "feature_dim": 4, "hidden": 8, "sh_degree": 1}

    def write(**metadata):
        save_file(
            tensors,
            path,
            {"format": "gghead/1", "kind": "avatar", "config": json.dumps(config), **metadata},
        )

    for metadata, sentence in (
        ({"format": "gghead/9"}, "has format 'gghead/9', but this version reads"),
        ({"kind": "spline"}, "unknown kind 'spline'"),
        ({"config": json.dumps({**config, "color": 1})}, "has no key 'color'"),
        ({"config": json.dumps({**config, "hidden": 9})}, "does not fit its own config"),
    ):
        write(**metadata)
        with pytest.raises(UserError, match=sentence):
            gghead.load(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="truncated"):
        gghead.load(path)


@pytest.mark.parametrize(
    "expression, sentence",
    [
        (torch.zeros(1, 4), "takes 3 expression coefficients"),
        (torch.zeros(3), "must be \\[frames, 3\\]"),
        (torch.full((1, 3), torch.nan), "NaN or infinite"),
    ],
)
def test_wrong_expressions_are_a_sentence(expression, sentence):
    with pytest.raises(ValueError, match=sentence):
        small()(expression)
