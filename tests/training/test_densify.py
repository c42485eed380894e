"""Densification beside gsplat's DefaultStrategy: the same Gaussians and optimizer memories, round
after round."""

import math

import pytest
import torch
from helpers.small_avatar import small_config

from gghead.models.avatar import Avatar
from gghead.models.avatar_config import AvatarConfig
from gghead.training.avatar.config import DensifyConfig
from gghead.training.avatar.densify import Densifier
from gghead.training.avatar.trainer import make_optimizer

strategies = pytest.importorskip("gsplat.strategy", reason="gsplat is not installed")
CPU = torch.device("cpu")
SIZE = (48, 32)
# judged by what was seen since the last refinement, as gsplat judges by the parameter
PLAN = DensifyConfig(window=1)
ROUNDS = 4


def observation(count, random):
    """Gradients of the projected means in pixels [N, 2], radii [N, 2]; a fifth of the Gaussians is
    not seen."""
    strength = 10 ** (torch.rand(count, 1, generator=random) * 3 - 6.5)
    gradient = torch.randn(count, 2, generator=random) * strength
    radii = torch.randint(1, 9, (count, 2), generator=random)
    radii[torch.rand(count, generator=random) < 0.2, 1] = 0
    return gradient, radii


def copies(avatar, optimizer):
    """The avatar's per-Gaussian parameters, Gaussians first, each with an optimizer of its own, as
    gsplat has them."""
    dims, rates = (
        avatar.per_gaussian(),
        {group["name"]: group["lr"] for group in optimizer.param_groups},
    )
    params = {
        name: torch.nn.Parameter(
            getattr(avatar, name).detach().movedim(dim, 0).contiguous().clone()
        )
        for name, dim in dims.items()
    }
    optimizers = {
        name: torch.optim.Adam([params[name]], lr=rates[name], eps=1e-15, fused=True)
        for name in params
    }
    params["scales"], optimizers["scales"] = params.pop("log_scales"), optimizers.pop("log_scales")
    # not ours: see below
    params["opacities"] = torch.nn.Parameter(torch.full((avatar.num,), 2.0), requires_grad=False)
    return params, optimizers


def step(avatar, optimizer, params, optimizers, random):
    """One step of both with the same gradients, so that Adam's averages are those of a run."""
    for name, dim in avatar.per_gaussian().items():
        gradient = torch.randn(getattr(avatar, name).shape, generator=random) * 1e-3
        getattr(avatar, name).grad = gradient
        other = "scales" if name == "log_scales" else name
        params[other].grad = gradient.movedim(dim, 0).contiguous()
        optimizers[other].step()
    optimizer.step()


def test_sets_and_memories_are_those_of_gsplat():
    random = torch.Generator().manual_seed(5)
    avatar = Avatar(
        AvatarConfig(width=3, feature_dim=4, hidden=8, sh_degree=1),
        torch.randn(300, 3, generator=random) * 0.2,
        spacing=0.01,
    )
    with torch.no_grad():
        avatar.basis.normal_(generator=random)
        avatar.quats.normal_(generator=random)
        avatar.log_scales += torch.randn(300, 1, generator=random) * 0.7  # on both sides of small
        avatar.log_scales[:6] = math.log(0.5)  # pruned once size is asked for
    optimizer = make_optimizer(avatar, small_config())
    params, optimizers = copies(avatar, optimizer)
    theirs = strategies.DefaultStrategy(
        grow_grad2d=PLAN.gradient,
        grow_scale3d=PLAN.small,
        prune_scale3d=PLAN.large,
        prune_opa=PLAN.min_opacity,
        refine_start_iter=PLAN.start,
        refine_every=PLAN.every,
        refine_stop_iter=PLAN.until,
        reset_every=PLAN.large_from,
    )
    state = theirs.initialize_state(scene_scale=1.0)
    ours = Densifier(PLAN, avatar.num, 1.0, 450, CPU)
    noise, counts = torch.Generator(), []
    for refinement in range(ROUNDS):
        first = 2800 + PLAN.every * refinement  # the last rounds come after `large_from`
        step(avatar, optimizer, params, optimizers, random)
        # Opacity is a parameter there and the network's output here: both are told the same one.
        opacity = torch.where(torch.rand(avatar.num, generator=random) < 0.1, 0.002, 0.4)
        params["opacities"] = torch.nn.Parameter(opacity.logit(), requires_grad=False)
        for iteration in range(first + PLAN.every - 2, first + PLAN.every + 1):
            gradient, radii = observation(avatar.num, random)
            # ours waits a window with the children of transparent ones
            gradient[opacity < 0.01] = 0
            means2d = torch.zeros(1, avatar.num, 2, requires_grad=True)
            means2d.grad = gradient[None].clone()
            ours.observe(gradient, radii, opacity, SIZE)
            torch.manual_seed(iteration)
            theirs.step_post_backward(
                params,
                optimizers,
                state,
                iteration,
                {
                    "width": SIZE[0],
                    "height": SIZE[1],
                    "n_cameras": 1,
                    "radii": radii[None],
                    "gaussian_ids": None,
                    "means2d": means2d,
                },
            )
        done = ours.refine(avatar, optimizer, iteration, noise.manual_seed(iteration))
        counts.append((done.cloned, done.split, done.pruned, avatar.num))
        for name, dim in avatar.per_gaussian().items():
            other = "scales" if name == "log_scales" else name
            mine, memory = getattr(avatar, name), optimizer.state[getattr(avatar, name)]
            torch.testing.assert_close(mine.movedim(dim, 0), params[other], atol=1e-6, rtol=1e-6)
            for key in ("exp_avg", "exp_avg_sq", "step"):
                value = memory[key].movedim(dim, 0) if memory[key].ndim else memory[key]
                assert torch.equal(value, optimizers[other].state[params[other]][key]), (name, key)
    assert all(min(row[:3]) > 3 for row in counts), counts  # each round cloned, split and pruned
