"""Finding the parts of a compressed avatar.

A singular value decomposition of what expressions change.

The inner activations of N Gaussians (and their motions, where they move) are an affine function of
the coefficients, N x I numbers for each of B. They are written in the few combinations of
coefficients that the training frames use, each weighted by how strongly they use it, and the N x (R
I) matrix of these is factored; what is left out is then the least possible in the mean square over
the training frames (Eckart and Young 1936). A Gaussian uses the first movements only, as many as it
needs.
"""

from dataclasses import replace

import torch
from torch import Tensor

from gghead.models.avatar import Avatar, AvatarModel
from gghead.models.avatar_config import CompressionPlan, FactorConfig
from gghead.models.compressed_avatar import CompressedAvatar
from gghead.torch_utils.errors import UserError

# share of each coefficient's whole range, moved alone, beside what the training frames use
_BOX = 0.3
_NOISE = 1e-9  # of the strongest combination; weaker ones are rounding
# of motions against activations in what is kept: a shift shows more than an activation of its size
_WEIGHT = 3.0
_AT_ONCE = 4096  # Gaussians


# [T, B], [B], [B]
def second_moment(expression: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [B] and covariance [B, B] of the frames, widened by a part of a box.

    The box goes from ``low`` to ``high``: other people's expressions, and single coefficients moved
    by hand, are to look right too.
    """
    expression, span = expression.double(), (high - low).double()
    center = expression.mean(0)
    moved = expression - center
    return center, moved.T @ moved / len(moved) + _BOX * torch.diag(span.square() / 12)


@torch.no_grad()
def factorize(
    avatar: AvatarModel, expression: Tensor | None, plan: CompressionPlan
) -> CompressedAvatar:
    """A compressed avatar with 32 bits per number (see ``CompressedAvatar.quantize``).

    ``expression`` [T, B] are the training frames' coefficients; without them the box that the
    avatar was trained in stands for them. Raises ``UserError`` for an avatar that is compressed
    already or knows no box.
    """
    if not isinstance(avatar, Avatar):
        raise UserError("This avatar is compressed already; compress the one it was made from.")
    low, high = avatar.coefficient_min.cpu(), avatar.coefficient_max.cpu()
    if not bool((low.isfinite() & high.isfinite()).all()):
        raise UserError(
            "This avatar does not say which coefficients it was trained with; train it again."
        )
    if expression is None:
        expression = torch.stack([low, high])
        expression = torch.cat([expression, (low + high)[None] / 2 + torch.diag(high - low) / 2])
    center, moment = second_moment(avatar.clamp(expression.to(avatar.device)).cpu(), low, high)
    strength, directions = (value.flip(-1) for value in torch.linalg.eigh(moment))
    used = min(plan.combinations, int((strength > _NOISE * strength[0].clamp_min(1e-30)).sum()))
    spread = strength[:used].sqrt()
    directions = directions[:, :used]
    # [1 + R, B]
    points = torch.cat([center[None], center + (directions * spread).T]).float().to(avatar.device)
    fixed = _affine(avatar, points[0])
    # One combination after the other: all of them together are gigabytes where there are many
    # Gaussians.
    changes = [(_affine(avatar, point) - fixed).cpu() for point in points[1:]]
    # [N, R I]
    stacked = (
        torch.stack(changes, 1).flatten(1) if changes else fixed.new_zeros(len(fixed), 0).cpu()
    )
    basis = _principal(
        stacked, min(plan.movements(avatar.config.motion), *stacked.shape)
    )  # [R I, K]
    weights = torch.cat([part @ basis for part in stacked.split(_AT_ONCE)])
    ranks, order, counts = _groups(weights, plan)
    config = replace(avatar.config, factors=FactorConfig(32, used, ranks, counts))
    made = CompressedAvatar(config).to(avatar.device)
    names = {"places": "means", "sizes": "log_scales", "turns": "quats", "look": "static"}
    for own, name in names.items():
        if hasattr(avatar, name):
            value = getattr(avatar, name)
            value = torch.nn.functional.normalize(value, dim=-1) if name == "quats" else value
            getattr(made, own).codes.copy_(value[order.to(value.device)])
    inner = made.fixed.codes.shape[1]
    made.fixed.codes.copy_(fixed[order.to(fixed.device), :inner])
    for part, rank, rows in zip(made.group_weights, ranks, order.split(list(counts)), strict=True):
        part.codes.copy_(weights[rows, :rank])
    tables = basis.T.reshape(basis.shape[1], used, -1).transpose(0, 1)[:, : max(ranks)]
    made.tables.codes.copy_(tables[..., :inner])
    if config.motion != "features":
        made.rest.codes.copy_(fixed[order.to(fixed.device), inner:] / _WEIGHT)
        made.carried.codes.copy_(tables[..., inner:] / _WEIGHT)
    made.center.copy_(center)
    made.mixing.copy_(directions / spread)
    made.coefficient_min.copy_(low)
    made.coefficient_max.copy_(high)
    if config.mlp:
        made.output.load_state_dict(avatar.output.state_dict())
    return made.train(avatar.training)


# [B] -> [N, I], or [N, I + 6] where Gaussians move
def _affine(avatar: Avatar, expression: Tensor) -> Tensor:
    """All that is an affine function of the coefficients."""
    inner = avatar.inner(expression[None])[0]
    if avatar.config.motion == "features":
        return inner
    return torch.cat([inner, _WEIGHT * avatar.motions(expression[None])[0]], 1)


def _principal(matrix: Tensor, count: int) -> Tensor:  # [N, M] -> [M, count]
    """The right singular vectors with the largest singular values.

    They come from the smaller of the two Gram matrices.
    """
    if matrix.shape[0] < matrix.shape[1]:
        gram = matrix.new_zeros(len(matrix), len(matrix), dtype=torch.double)
        for part in matrix.split(_AT_ONCE, 1):
            gram += part.double() @ part.double().T
        left = torch.linalg.eigh(gram)[1]
        vectors = matrix.T.double() @ left.flip(1)[:, :count]
        return (vectors / vectors.norm(dim=0).clamp_min(1e-30)).float()
    gram = matrix.new_zeros(matrix.shape[1], matrix.shape[1], dtype=torch.double)
    for part in matrix.split(_AT_ONCE):
        gram += part.double().T @ part.double()
    return torch.linalg.eigh(gram)[1].flip(1)[:, :count].float()


def _groups(
    weights: Tensor, plan: CompressionPlan
) -> tuple[tuple[int, ...], Tensor, tuple[int, ...]]:
    """Ranks, the Gaussians' order, and counts.

    Each Gaussian gets the least of the ranks that its movements allow.
    """
    count, rank = weights.shape
    squares = weights.double().square()
    allowed = plan.prune**2 * squares.sum(1).mean()
    kept = torch.cat([squares.new_zeros(count, 1), squares.cumsum(1)], 1)
    # [N, K + 1]: mean square of what is lost with the first 0 … K movements
    missing = kept[:, -1:] - kept
    levels = sorted({rank, rank // 2, rank // 4, rank // 8, 0}, reverse=True)
    chosen = torch.full((count,), rank)
    for level in levels[1:]:
        chosen[missing[:, level] <= allowed] = level
    groups = [(level, (chosen == level).nonzero()[:, 0]) for level in levels]
    groups = [(level, rows) for level, rows in groups if len(rows)]
    ranks, rows = zip(*groups, strict=True)
    return tuple(ranks), torch.cat(rows), tuple(len(part) for part in rows)
