"""The expression transformer: identity, batches, checks, files, and the one interface to both ways
of moving."""

import pytest
import torch
from helpers.small_expression import expression
from helpers.small_network import small_network
from helpers.small_reconstructor import small_reconstructor

import gghead
from gghead import checkpoints
from gghead.inversion import Latent
from gghead.models.expression import ExpressionModel
from gghead.models.expression_config import ExpressionConfig
from gghead.networks.expression_transformer import ExpressionTransformer
from gghead.torch_utils.errors import UserError


@pytest.fixture(scope="module")
def generator():
    return small_network()


@pytest.fixture(scope="module")
def model(generator):
    return expression(generator)


def latent(generator, count=1, residual=True):
    random = torch.Generator().manual_seed(3)
    z = torch.randn(count, generator.z_dim, generator=random)
    side = generator.config.latent_resolution
    extra = (
        torch.randn(count, generator.synthesis.out_channels, side, side, generator=random)
        if residual
        else None
    )
    return Latent(generator.mapping(z), extra, info={"target": "me"})


@pytest.mark.parametrize("mixing", ["attention", "convolution"])
def test_no_expression_changes_nothing_trained_or_not(generator, mixing):
    untrained = ExpressionTransformer(8, 4, 3, 24, 16, 2, 2, 1.0, 3, mixing, 0.0, 4)
    z = torch.randn(2, 8, 4, 4)
    for part in untrained(z, torch.rand(2, 3)):
        assert not part.any()
    moving, start = expression(generator, mixing=mixing), latent(generator)
    moved = moving(start, torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]), generator)
    for name in ("ws", "residual"):
        now, before = getattr(moved, name), getattr(start, name)
        assert torch.equal(now[0], before[0]) and float((now[1] - before[0]).abs().max()) > 1e-3
    assert moved.info == start.info


def test_heads_move_each_by_its_own_row(generator, model):
    heads, table = latent(generator, 2), torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.8, 0.1]])
    together = model(heads, table, generator)
    for index in range(2):
        alone = model(heads[index : index + 1], table[index : index + 1], generator)
        torch.testing.assert_close(
            together.residual[index], alone.residual[0], atol=1e-6, rtol=1e-5
        )
        torch.testing.assert_close(together.ws[index], alone.ws[0], atol=1e-6, rtol=1e-5)
    bare = latent(generator, 1, residual=False)  # a seed has no residual
    assert model(bare, table, generator).residual.shape == together.residual.shape


def test_coefficients_are_kept_in_the_range_of_training(generator, model):
    start = latent(generator)
    inside, outside = (
        model(start, torch.tensor([[value, 0.0, 0.0]]), generator) for value in (1.0, 5.0)
    )
    assert torch.equal(inside.residual, outside.residual)
    wild = model(start, torch.tensor([[5.0, 0.0, 0.0]]), generator, clamp=False)
    assert not torch.equal(wild.residual, outside.residual)


def test_gradients_reach_every_parameter(generator):
    model = expression(generator).requires_grad_(True)
    moved = model(latent(generator), torch.tensor([[0.5, 0.2, 0.9]]), generator)
    (moved.residual.square().sum() + moved.ws.square().sum()).backward()
    still = [
        name
        for name, value in model.named_parameters()
        if value.grad is None or not bool(value.grad.any())
    ]
    assert still == []


def test_animate_is_one_interface(generator, model):
    start = latent(generator)
    heads = gghead.animate(
        start, {"jawOpen": [0.0, 0.5], "eyeBlinkLeft": 0.0}, model=generator, motion=model
    )
    assert heads.shape == (2,)
    neutral = start.gaussians(generator)
    torch.testing.assert_close(heads.means[0], neutral.means[0], atol=1e-6, rtol=1e-5)
    assert float((heads.means[1] - neutral.means[0]).abs().max()) > 1e-5
    # an undivided name, both sides
    both = gghead.animate(start, {"eyeBlink": 0.5}, model=generator, motion=model)
    sides = gghead.animate(start, torch.tensor([[0.0, 0.5, 0.5]]), model=generator, motion=model)
    assert torch.equal(both.means, sides.means)
    with pytest.warns(UserWarning, match="No shape for mouthFunnel"):
        gghead.animate(start, {"mouthFunnel": 1.0}, model=generator, motion=model)
    with pytest.raises(
        UserError,
        match="which this expression transformer has no shape for; did you mean 'jawOpen'",
    ):
        gghead.animate(start, {"jawOpn": 1.0}, model=generator, motion=model)
    with pytest.raises(UserError, match="changes latents, and these are Gaussians"):
        gghead.animate(neutral, {"jawOpen": 1.0}, model=generator, motion=model)


def test_a_reconstructor_gives_heads_that_move():
    network = small_reconstructor()
    moving = expression(network.generator)
    start = network.encode(
        torch.rand(1, 2, 3, 24, 24), gghead.Cameras.orbit(torch.tensor([[-0.3, 0.3]]), focal=2.9)
    )
    heads = gghead.animate(start, {"jawOpen": 1.0}, model=network, motion=moving)
    assert float((heads.means - start.gaussians(network.generator).means).abs().max()) > 1e-5


def test_wrong_latents_are_a_sentence(generator, model):
    with pytest.raises(UserError, match="was trained for another network"):
        model(latent(generator), torch.zeros(1, 3), small_network(seed=1))
    with pytest.raises(ValueError, match="Weights of 3 frames move one latent or 3 latents, not 2"):
        model(latent(generator, 2), torch.zeros(3, 3), generator)
    with pytest.raises(ValueError, match="takes 3 coefficients, but the table has 2"):
        model(latent(generator), torch.zeros(1, 2), generator)
    with pytest.raises(UserError, match="needs the names of its coefficients"):
        ExpressionModel(ExpressionConfig())


def test_files(generator, model, tmp_path):
    path = tmp_path / "run" / "expression-000010.safetensors"
    path.parent.mkdir()
    model.check(generator)  # what it has looked at does not become part of the file
    checkpoints.save(model, path, done=10, provenance={"data": "x"})
    loaded = gghead.load(path.parent, kind="expression")
    assert loaded.config == model.config and not any(p.requires_grad for p in loaded.parameters())
    assert {name for name, _ in loaded.named_parameters()} == {
        name for name, _ in model.named_parameters()
    }
    table = torch.tensor([[0.5, 0.2, 0.9]])
    assert torch.equal(
        loaded(latent(generator), table, generator).residual,
        model(latent(generator), table, generator).residual,
    )
    with pytest.raises(
        UserError, match="is an expression transformer, but a generator of heads is needed"
    ):
        gghead.load(path, kind="generator")
    with pytest.raises(
        UserError, match="is a generator of heads, but an expression transformer is needed"
    ):
        gghead.load("demo", kind="expression")
