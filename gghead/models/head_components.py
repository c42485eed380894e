"""A latent as one token: whitened principal components of whole heads, for priors over few heads.

Some hundreds of encoded heads say how the places of a head vary together, but not enough to learn
it from patches: components of styles and residual together ("eigenheads"; Turk and Pentland 1991,
"Eigenfaces for recognition", and Blanz and Vetter 1999 of head shapes) carry it from the start, and
what lies outside of them stays the mean.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gghead.latent import Latent
from gghead.models.prior_config import TokenShape
from gghead.torch_utils.errors import UserError


class HeadComponents(nn.Module):
    """Turns latents into vectors [B, D] of mean zero and variance one, and back.

    As ``LatentTokens`` does.
    """

    mean: Tensor  # [numbers]
    head_basis: Tensor  # [components, numbers]
    scale: Tensor  # [components]
    weight: Tensor  # [2]

    def __init__(self, shape: TokenShape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape.numbers))
        # orthonormal
        self.register_buffer("head_basis", torch.zeros(shape.components, shape.numbers))
        self.register_buffer("scale", torch.zeros(shape.components))  # standard deviations
        # of styles and residual, so that their variances are alike
        self.register_buffer("weight", torch.ones(2))

    @property
    def kinds(self) -> list[tuple[int, int]]:
        """(tokens, numbers per token)."""
        return [(1, self.shape.components)]

    def encode(self, latent: Latent) -> Tensor:  # [B, D]
        """Return whitened components; no residual is a residual of zero.

        Deltas and cameras are left out.
        """
        return (_flat(latent, self.shape, self.weight) - self.mean) @ self.head_basis.T / self.scale

    def decode(self, x: Tensor) -> Latent:  # [B, D]
        """Return latents."""
        shape = self.shape
        styles, residual = (x * self.scale @ self.head_basis + self.mean).split(
            [shape.num_ws * shape.w_dim, shape.channels * shape.side**2], dim=1
        )
        ws = (styles / self.weight[0]).unflatten(1, (shape.num_ws, shape.w_dim))
        if not shape.channels:
            return Latent(ws)
        return Latent(
            ws, (residual / self.weight[1]).unflatten(1, (shape.channels, shape.side, shape.side))
        )

    def explained_share(self, latent: Latent) -> float:
        """Share of the heads' variance about the mean that the components hold."""
        away = _flat(latent, self.shape, self.weight) - self.mean
        return float((away @ self.head_basis.T).square().sum() / away.square().sum())

    def spread(self, x: Tensor) -> Tensor:  # [B, D] -> [B, D]
        """Undo the whitening, so that distances count every component by its variance.

        Scaled such that two unrelated heads are about sqrt(2) apart.
        """
        return x * (self.scale / self.scale.square().sum().sqrt())


def fit_components(latents: Iterable[Latent], count: int) -> HeadComponents:
    """Measure the mean and the first ``count`` principal components of all heads.

    There are fewer if the heads span fewer.

    Raises ``UserError`` for fewer than two heads, or heads that are all the same.
    """
    parts = list(latents)
    heads = sum(len(part) for part in parts)
    if heads < 2:
        raise UserError(
            f"A prior needs many latents, but there {'is 1' if heads else 'are none'}; name a"
            " folder of latent files, or draw samples=20000."
        )
    residual = next((part.residual for part in parts if part.residual is not None), None)
    channels, side = residual.shape[1:3] if residual is not None else (0, 0)
    shape = TokenShape(
        num_ws=parts[0].ws.shape[1],
        w_dim=parts[0].ws.shape[2],
        rows=parts[0].ws.shape[1],
        w_components=0,
        channels=channels,
        side=side,
        components=1,
    )
    x = torch.cat([_flat(part, shape, torch.ones(2)) for part in parts])
    mean = x.mean(0)
    styles = shape.num_ws * shape.w_dim
    sizes = [styles, x.shape[1] - styles]
    # the mean of equal heads is rounded
    rounding = [(1e-6 * part).square().sum() for part in x.split(sizes, 1)]
    x -= mean
    energies = [part.square().sum() for part in x.split(sizes, 1)]
    vary = [bool(energy > least) for energy, least in zip(energies, rounding, strict=True)]
    if not any(vary):
        raise UserError(f"All {heads} latents are the same: there is nothing to learn.")
    weight = torch.stack(
        [
            (energy / heads).rsqrt() if varies else torch.ones(())
            for energy, varies in zip(energies, vary, strict=True)
        ]
    )
    each = weight.repeat_interleave(torch.tensor(sizes))
    x *= each
    # [N, N]: a head has far more numbers than there are heads
    values, vectors = torch.linalg.eigh((x @ x.T).double())
    kept = min(count, int((values > 1e-6 * values[-1].clamp_min(1e-30)).sum()))
    basis = torch.nn.functional.normalize(vectors[:, -kept:].flip(1).T.float() @ x, dim=1)
    basis = basis * basis.gather(1, basis.abs().argmax(1, keepdim=True)).sign()
    found = HeadComponents(TokenShape(**{**vars(shape), "components": kept}))
    found.load_state_dict(
        {
            "mean": mean * each,
            "head_basis": basis,
            "weight": weight,
            "scale": (values[-kept:].flip(0) / heads).sqrt().float(),
        }
    )
    return found


def _flat(latent: Latent, shape: TokenShape, weight: Tensor) -> Tensor:  # [B, numbers]
    """Styles and residual, weighted, in one row per head."""
    parts = [latent.ws.flatten(1) * weight[0]]
    if shape.channels:
        zero = latent.ws.new_zeros(len(latent), shape.channels * shape.side**2)
        parts.append(zero if latent.residual is None else latent.residual.flatten(1) * weight[1])
    return torch.cat(parts, dim=1)
