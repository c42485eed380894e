"""Priors over latents: tokens, flow, training and exact resume, nearest neighbors."""

import json
import math

import numpy as np
import pytest
import torch
from helpers.prior_latents import some_latents, write_latents
from helpers.small_network import small_network
from helpers.spoiled import check_one_bad_update

from gghead import latent as latent_files
from gghead.latent import Latent
from gghead.models.head_components import fit_components
from gghead.models.latent_tokens import fit_tokens
from gghead.models.prior import Prior
from gghead.models.prior_config import DiTConfig, PriorConfig, TokenShape
from gghead.networks.dit import DiT
from gghead.sampling import pick_vector, read_vectors, seed_latents
from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError
from gghead.training.prior import score
from gghead.training.prior.config import PRESETS
from gghead.training.prior.data import (
    Heads,
    conditions,
    file_heads,
    open_heads,
    sampled_heads,
    split,
)
from gghead.training.prior.trainer import PriorTrainer, learning_rate, new_prior

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return small_network(image_size=32)


def small_config(**changes):
    base = {
        "dit": {"width": 32, "depth": 2, "heads": 2},
        "steps": 20,
        "batch": 16,
        "tick": 10,
        "warmup": 5,
    }
    return config_json.replace(config_json.replace(PRESETS["tiny"], base), changes)


# ------------------------------------------------------------------------- tokens
def test_tokens_are_white_and_can_be_turned_back():
    latent = some_latents()
    tokens = fit_tokens([latent[:150], latent[150:]], patch=2, w_share=1.0, z_share=1.0, z_limit=64)
    assert (tokens.shape.rows, tokens.shape.w_components, tokens.shape.z_components) == (
        4,
        8,
        5,
    ), "a dead channel goes"
    assert tokens.kinds == [(4, 8), (4, 5 * 4)]
    x = tokens.encode(latent)
    assert x.shape == (400, 4 * 8 + 16 * 5)
    w = x[:, :32].reshape(-1, 8)
    torch.testing.assert_close(w.T.cov(), torch.eye(8), atol=0.02, rtol=0)
    z = x[:, 32:].reshape(400, 4, 5, 4).transpose(2, 3).reshape(-1, 5)
    torch.testing.assert_close(z.T.cov(), torch.eye(5), atol=0.02, rtol=0)
    torch.testing.assert_close(x.mean(0), torch.zeros(x.shape[1]), atol=1e-4, rtol=0)
    back = tokens.decode(x)
    torch.testing.assert_close(back.ws, latent.ws, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(back.residual, latent.residual, atol=1e-4, rtol=1e-4)


def test_few_components_keep_what_varies_most():
    latent = some_latents()
    tokens = fit_tokens([latent], patch=4, w_share=1.0, z_share=0.9, z_limit=64)
    assert tokens.shape.z_components == 2, "9 + 4 of 9 + 4 + 1 + 0.25 + 0.01"
    error = tokens.decode(tokens.encode(latent)).residual - latent.residual
    assert (
        float(error.square().sum() / (latent.residual - latent.residual.mean(0)).square().sum())
        < 0.1
    )
    assert fit_tokens([latent], 4, 1.0, 1.0, z_limit=1).shape.z_components == 1


def test_styles_that_are_the_same_in_all_layers_are_one_token(model):
    heads = sampled_heads(model, range(40))
    tokens = fit_tokens(heads.batches(7), patch=4, w_share=1.0, z_share=1.0, z_limit=64)
    assert (
        tokens.shape.rows == 1
        and tokens.shape.channels == 0
        and tokens.kinds == [(1, tokens.shape.w_components)]
    )
    back = tokens.decode(tokens.encode(heads.latent))
    torch.testing.assert_close(back.ws, heads.latent.ws, atol=1e-4, rtol=1e-3)
    assert back.residual is None


def test_no_residual_is_a_residual_of_zero():
    latent = some_latents()
    tokens = fit_tokens([latent], patch=2, w_share=1.0, z_share=1.0, z_limit=64)
    zero = Latent(latent.ws, torch.zeros_like(latent.residual))
    assert torch.equal(tokens.encode(Latent(latent.ws)), tokens.encode(zero))


def test_unrelated_heads_are_a_root_of_two_apart():
    for residual in (True, False):
        latent = some_latents(residual=residual)
        tokens = fit_tokens([latent], patch=2, w_share=1.0, z_share=1.0, z_limit=64)
        points = tokens.spread(tokens.encode(latent))
        square = (points[:200] - points[200:]).square().sum(1).mean()
        assert float(square) == pytest.approx(2.0, rel=0.05)


def test_too_few_heads():
    one = some_latents(1)
    with pytest.raises(UserError, match="needs many latents, but there is 1"):
        fit_tokens([one], 2, 1.0, 1.0, 64)
    with pytest.raises(UserError, match="All 2 latents have the same styles"):
        fit_tokens([one, one], 2, 1.0, 1.0, 64)
    with pytest.raises(
        UserError, match="patch of 3 texels does not divide the residual's side of 4"
    ):
        fit_tokens([some_latents()], 3, 1.0, 1.0, 64)


# --------------------------------------------------------------------- whole heads
def test_components_of_whole_heads_are_white_and_the_best_that_so_few_numbers_can_be():
    random = torch.Generator().manual_seed(0)
    places = torch.randn(90, 3, generator=random)  # heads that differ along three directions
    ws = (places @ torch.randn(3, 32, generator=random)).unflatten(1, (4, 8)) + 0.5
    z = 100 * (places @ torch.randn(3, 96, generator=random)).unflatten(1, (6, 4, 4)) - 7
    latent = Latent(ws, z)
    found = fit_components([latent[:50], latent[50:]], 8)
    assert (
        found.shape.components == 3 and found.kinds == [(1, 3)] and found.shape.sizes == (3, 0)
    ), "no more are there"
    x = found.encode(latent)
    torch.testing.assert_close(x.T @ x / 90, torch.eye(3), atol=1e-3, rtol=0)
    back = found.decode(x)
    torch.testing.assert_close(back.ws, ws, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(back.residual, z, atol=0.1, rtol=1e-3)
    assert found.explained_share(latent) == pytest.approx(1, abs=1e-4)
    points = found.spread(x)
    apart = (points[:, None] - points).square().sum(2).sum() / (90 * 89)
    assert float(apart) == pytest.approx(2, rel=0.02), "unrelated heads are a root of two apart"
    one = fit_components([latent], 1)
    assert 1 / 3 < one.explained_share(latent) < 0.99 and one.shape.components == 1
    assert float(one.spread(one.encode(latent)).var()) == pytest.approx(1, rel=0.02)
    parts = one.weight[0] * ws.flatten(1).std(0).norm(), one.weight[1] * z.flatten(1).std(0).norm()
    assert float(parts[0]) == pytest.approx(float(parts[1]), rel=1e-3), (
        "styles and residual count alike"
    )


def test_components_without_a_residual_and_of_too_few_heads():
    latent = some_latents(residual=False)
    found = fit_components([latent], 32)
    torch.testing.assert_close(
        found.decode(found.encode(latent)).ws, latent.ws, atol=1e-4, rtol=1e-4
    )
    assert found.decode(torch.zeros(1, 32)).residual is None
    one = some_latents(1)
    with pytest.raises(UserError, match="needs many latents, but there is 1"):
        fit_components([one], 4)
    for count in (2, 3, 5):
        with pytest.raises(UserError, match=f"All {count} latents are the same"):
            fit_components([one] * count, 4)


def test_a_bad_update_is_counted_and_made_harmless():
    heads, config = (
        Heads([f"h{index}" for index in range(12)], some_latents(12)),
        small_config(batch=4),
    )
    trainer = PriorTrainer(
        config, new_prior(config, small_network(), heads, None), heads, None, None, None, CPU
    )
    trainer.step()
    check_one_bad_update(trainer, next(trainer.prior.flow.parameters()))


def test_patience_keeps_the_prior_that_knew_the_held_out_heads_best():
    """Six heads are soon learned by heart: the held-out loss rises, and the best step is kept
    through a resume."""
    heads = Heads([f"h{index}" for index in range(12)], some_latents(12))
    train, aside = split(heads, 0.5, seed=0)
    config = small_config(
        tokens={"components": 4}, patience=2, steps=400, batch=16, lr=3e-3, ema=0.9
    )
    trainer = PriorTrainer(
        config, new_prior(config, small_network(), train, None), train, aside, None, None, CPU
    )
    losses = {0: trainer.check()["held_out"]}
    while not trainer.exhausted:
        for _ in range(config.tick):
            trainer.step()
        losses[trainer.step_number] = trainer.check()["held_out"]
    prior, step = trainer.result
    assert losses[step] == min(losses.values()) and trainer.step_number - step == 20 < 400
    again = PriorTrainer(
        config, new_prior(config, small_network(), train, None), train, aside, None, None, CPU
    )
    again.load_state_dict(trainer.state_dict())
    assert again.exhausted and again.result[1] == step
    assert torch.equal(again.result[0].sample(3).ws, prior.sample(3).ws)
    trainer.config = config_json.replace(config, {"patience": 0})
    assert not trainer.exhausted


# --------------------------------------------------------------------------- flow
def test_the_transformer_starts_at_zero_and_knows_places_times_and_conditions():
    torch.manual_seed(0)
    net = DiT([(3, 4), (2, 5)], width=16, depth=2, heads=4, cond_dim=2)
    x, t, cond = torch.randn(6, 22), torch.rand(6), torch.randn(6, 2)
    assert not net(x, t, cond).any()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    y = net(x, t, cond)
    assert (net(x, 1 - t, cond) - y).abs().amax(1).min() > 1e-3
    assert (net(x, t, cond.flip(0)) - y).abs().amax(1).min() > 1e-3
    swapped = x.clone()
    swapped[:, :4], swapped[:, 4:8] = x[:, 4:8], x[:, :4]
    assert (net(swapped, t, cond)[:, 4:8] - y[:, :4]).abs().max() > 1e-3, "a token knows its place"
    keep = torch.arange(6) < 3
    mixed = net(x, t, cond, keep)
    torch.testing.assert_close(mixed[:3], y[:3])
    torch.testing.assert_close(mixed[3:], net(x, t)[3:])


def untrained(latent):
    tokens = fit_tokens([latent], patch=2, w_share=1.0, z_share=1.0, z_limit=64)
    prior = Prior(PriorConfig(tokens.shape, DiTConfig(width=16, depth=1, heads=2)))
    prior.tokens = tokens
    return prior


def test_an_untrained_prior_is_the_normal_distribution_with_the_training_sets_moments():
    """The flow between two equal normal distributions ends where it began: a check of sampler and
    preconditioning."""
    latent = some_latents()
    prior = untrained(latent)
    noise = torch.randn(500, prior.size, generator=torch.Generator().manual_seed(3))
    errors = {}
    for solver, steps in (("euler", 40), ("heun", 20), ("heun", 40)):
        x = prior.tokens.encode(prior.draw(noise, steps=steps, solver=solver))
        errors[solver, steps] = float((x - noise).abs().mean())
    assert errors["heun", 40] < 0.002 < errors["euler", 40]
    assert errors["heun", 20] / errors["heun", 40] > 3, "second order"


def two_kinds(count=600, seed=0):
    """Latents in two narrow heaps along one direction, and which heap each is in."""
    random = torch.Generator().manual_seed(seed)
    side = torch.randint(2, (count,), generator=random) * 2.0 - 1
    w = torch.randn(count, 1, 4, generator=random) * 0.3
    w[:, 0, 0] = side * 2 + 0.1 * w[:, 0, 0] + 10  # beyond the kink of the leaky rectifier
    return Latent(w.expand(-1, 3, -1).contiguous()), side


def trained(cond, steps=350):
    latent, side = two_kinds()
    heads = Heads([f"h{i}" for i in range(len(side))], latent)
    vectors = torch.stack([side * 5 + 3, torch.zeros_like(side)], 1) if cond else None
    config = small_config(steps=steps, batch=64, lr=4e-3)
    prior = new_prior(config, small_network(), heads, vectors)
    trainer = PriorTrainer(config, prior, heads, None, vectors, None, CPU)
    for _ in range(steps):
        trainer.step()
    return trainer.average


def test_a_prior_learns_what_is_not_normal():
    prior = trained(cond=False)
    noise = torch.randn(300, prior.size, generator=torch.Generator().manual_seed(1))

    def between(latent):
        return float(((latent.ws[:, 0, 0] - 10).abs() < 1).float().mean())

    assert between(prior.tokens.decode(noise)) > 0.3, (
        "a normal distribution puts heads where none are"
    )
    drawn = prior.draw(noise)
    assert between(drawn) < 0.08
    left = float((drawn.ws[:, 0, 0] < 10).float().mean())
    assert 0.35 < left < 0.65
    torch.testing.assert_close(drawn.ws[:, 0], drawn.ws[:, 2])


def test_conditions_and_guidance():
    prior = trained(cond=True)
    noise = torch.randn(200, prior.size, generator=torch.Generator().manual_seed(1))
    right, left = torch.tensor([[8.0, 0.0]]), torch.tensor([[-2.0, 0.0]])

    def side(**options):
        return float((prior.draw(noise, steps=10, **options).ws[:, 0, 0] > 10).float().mean())

    assert side(cond=right) > 0.95 and side(cond=left) < 0.05
    assert 0.3 < side() < 0.7
    none = prior.draw(noise, steps=10, cond=right, guidance=0.0)
    torch.testing.assert_close(none.ws, prior.draw(noise, steps=10).ws, atol=1e-4, rtol=1e-4)
    assert side(cond=right, guidance=2.0) > 0.99
    with pytest.raises(UserError, match=r"The condition must have shape \[\.\.\., 2\]"):
        prior.draw(noise, cond=torch.zeros(1, 3))
    with pytest.raises(UserError, match="`guidance` strengthens a condition, but there is none"):
        prior.draw(noise, guidance=2.0)
    with pytest.raises(UserError, match="trained without conditions"):
        untrained(some_latents()).normalize(right)


def test_a_seeds_head_does_not_depend_on_the_others():
    prior = untrained(some_latents())
    assert torch.equal(prior.sample(7, steps=3).ws, prior.sample(7, steps=3).ws)
    together = prior.draw(torch.cat([prior.noise(6), prior.noise(7)]), steps=3)
    torch.testing.assert_close(together.ws[1:], prior.sample(7, steps=3).ws, atol=1e-5, rtol=1e-5)
    assert not torch.equal(prior.noise(6), prior.noise(7))


def test_heads_must_divide_the_width():
    with pytest.raises(UserError, match=r"dit.heads \(5\) must divide dit.width \(16\)"):
        Prior(PriorConfig(TokenShape(4, 8, 1, 8), DiTConfig(width=16, heads=5)))


def test_presets_and_the_learning_rate():
    for config in PRESETS.values():
        assert config.dit.width % config.dit.heads == 0
        assert (
            config_json.from_dict(type(config), json.loads(json.dumps(config_json.to_dict(config))))
            == config
        )
    config = small_config(steps=1000, warmup=10, lr=1.0)
    rates = [learning_rate(config, step) for step in range(1001)]
    assert rates[0] == pytest.approx(0.1) and max(rates) < 1.0 and rates[-1] == pytest.approx(0.05)
    assert all(before >= after for before, after in zip(rates[10:-1], rates[11:], strict=True))


# ---------------------------------------------------------------------------- data
def test_sampled_heads_are_those_of_gen_samples(model):
    heads = sampled_heads(model, range(3, 6))
    for index, latent in enumerate(seed_latents(model, [3, 4, 5])):
        torch.testing.assert_close(
            heads.latent.ws[index : index + 1], latent.ws, atol=1e-6, rtol=1e-5
        )
    assert heads.names == ["seed0003", "seed0004", "seed0005"]


def test_files_and_seeds_together(model, tmp_path):
    heads = open_heads(model, str(write_latents(tmp_path, model)), samples=4)
    assert heads.names == [
        *(f"p{index}" for index in range(6)),
        *(f"seed{seed:04d}" for seed in range(4)),
    ]
    assert heads.latent.residual[6:].abs().sum() == 0 and heads.latent.residual[:6].abs().sum() > 0
    assert heads[[1, 7]].names == ["p1", "seed0001"]
    with pytest.raises(UserError, match="nothing to train on"):
        open_heads(model, None, 0)


def test_a_changed_decoder_is_no_latent(model, tmp_path):
    """Of inversion's stages the last one without a change of the decoder is taken."""
    (latent,) = seed_latents(model, [1])
    changed = Latent(
        latent.ws, None, {"to_planes.0.bias": torch.ones(1, *model.decoder.to_planes[0].bias.shape)}
    )
    latent_files.save(tmp_path / "me" / "latent-pti.safetensors", changed, model)
    latent_files.save(tmp_path / "me" / "latent-w+.safetensors", latent, model)
    assert file_heads(model, str(tmp_path)).names == ["me"]
    with pytest.raises(UserError, match="latent-pti.safetensors changes the decoder's weights"):
        file_heads(model, str(tmp_path / "me" / "latent-pti.safetensors"))
    file = tmp_path / "me" / "latent-w+.safetensors"
    with pytest.raises(UserError, match="are both of the head 'me'"):
        file_heads(model, f"{file},{file}")


def test_some_heads_are_held_out():
    def names(count, holdout, seed):
        heads = Heads([f"h{index:03d}" for index in range(count)], some_latents(count))
        return tuple(part.names for part in split(heads, holdout, seed))

    train, aside = names(100, 0.1, seed=0)
    assert len(aside) == 10 and sorted(train + aside) == [f"h{index:03d}" for index in range(100)]
    assert names(100, 0.1, seed=0)[1] == aside != names(100, 0.1, seed=1)[1]
    assert names(3, 0.9, 0)[1] and len(names(3, 0.9, 0)[0]) == 2 and names(20, 0.0, 0)[1] == []


def test_all_heads_of_a_person_are_held_out_together():
    people = [f"p{index // 4}" for index in range(40)]
    heads = Heads([f"h{index}" for index in range(40)], some_latents(40), people)
    train, aside = split(heads, 0.2, seed=0)
    assert (
        len(aside) == 8
        and len(set(aside.people)) == 2
        and not set(aside.people) & set(train.people)
    )
    assert torch.equal(aside.latent.ws, heads.latent.ws[[int(name[1:]) for name in aside.names]])
    assert train.person.tolist() == [index // 4 for index in range(32)]


def test_vectors_of_conditions(tmp_path):
    np.savez(tmp_path / "a.npz", p0=[1.0, 2.0], p1=[3.0, 4.0])
    (tmp_path / "a.csv").write_text("name,age,smile\np0,1,2\np1, 3,4\n")
    for file in ("a.npz", "a.csv"):
        # --holdout=0
        assert conditions(tmp_path / file, []).shape == (
            0,
            conditions(tmp_path / file, ["p0"]).shape[1],
        )
        found = conditions(tmp_path / file, ["p1", "p0"])
        assert found.tolist() == [[3.0, 4.0], [1.0, 2.0]]
        assert pick_vector(f"{tmp_path / file}:p1").tolist() == [3.0, 4.0]
    with pytest.raises(UserError, match="has no vector for 1 of 2 heads, such as 'p2'"):
        conditions(tmp_path / "a.csv", ["p0", "p2"])
    with pytest.raises(UserError, match="holds 2 vectors .p0, p1.; name one as"):
        pick_vector(str(tmp_path / "a.csv"))
    with pytest.raises(UserError, match="has no vector 'q'; it has: p0, p1"):
        pick_vector(f"{tmp_path / 'a.csv'}:q")
    for text, words in (
        ("p0,1,2\np1,3\n", r"lengths are \[1, 2\]"),
        ("p0,1\np1,nan\n", "'p1' in .* not finite"),
        ("p0,1\np1,x\n", "holds no vectors that can be read"),
        ("", r"lengths are \[\]"),
    ):
        (tmp_path / "b.csv").write_text(text)
        with pytest.raises(UserError, match=words):
            read_vectors(tmp_path / "b.csv")
    with pytest.raises(UserError, match="neither .npz nor .csv"):
        read_vectors(tmp_path / "a.txt")
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="c.npz holds no vectors"):
        read_vectors(tmp_path / "c.npz")


# --------------------------------------------------------------- nearest neighbors
def test_nearest_neighbors_are_the_nearest():
    random = torch.Generator().manual_seed(0)
    points, others = torch.randn(700, 5, generator=random), torch.randn(90, 5, generator=random)
    found = score.nearest(points, others)
    away = (points[:, None] - others[None]).norm(dim=2)
    torch.testing.assert_close(found.distance, away.min(1).values)
    assert torch.equal(found.index, away.argmin(1))
    usual = score.leave_one_out(others)
    away = (others[:, None] - others[None]).norm(dim=2) + torch.diag(torch.full((90,), math.inf))
    torch.testing.assert_close(usual.distance, away.min(1).values)
    assert len(score.leave_one_out(others, limit=10).distance) == 10
    person = torch.arange(90) // 3
    away[person[:, None] == person] = math.inf
    torch.testing.assert_close(score.leave_one_out(others, person).distance, away.min(1).values)


def test_copies_of_training_heads_are_found_out():
    random = torch.Generator().manual_seed(0)
    train, fresh = torch.randn(2, 1000, 6, generator=random).unbind()
    usual = score.leave_one_out(train)
    assert score.closer_than_usual(score.nearest(fresh, train), usual) < 30, "chance is 10"
    copies = train[:200] + 1e-3 * torch.randn(200, 6, generator=random)
    assert score.closer_than_usual(score.nearest(copies, train), usual) == 200


def test_distances_of_sets(model):
    heads = sampled_heads(model, range(600))
    prior = untrained(heads.latent)
    with torch.no_grad():
        a, b = heads.latent[:300], heads.latent[300:]
        wide = Latent(a.ws * 1.5)
        found = score.compare(model, prior, {"same": a, "wide": wide}, b)
    for name, factor in (("latent_fd", 2), ("marginals", 2), ("frd", 1.3)):
        assert found["wide"][name] > factor * found["same"][name]
    w = a.ws[:, 0]
    assert score.marginals(w + 1.0, w) == pytest.approx(float((1 / w.std(0)).mean()), rel=1e-4)


def test_long_vectors_are_compared_along_what_varies():
    random = torch.Generator().manual_seed(0)
    axes, _ = torch.linalg.qr(torch.randn(5000, 3, generator=random))
    a, b = (torch.randn(400, 3, generator=random) for _ in range(2))
    b = b + torch.tensor([2.0, 0, 0])
    long = score.latent_frechet(a @ axes.T, b @ axes.T)
    assert long == pytest.approx(score.latent_frechet(a, b), rel=1e-3) and long > 3000
