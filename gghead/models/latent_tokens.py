"""A latent as whitened tokens.

Styles by their principal components, the residual on Z by patches of its own.

Flows start at independent normal noise, so what they end at should be as near to it as can be.
Styles come out of a leaky rectifier, whose kink makes them anything but normal; undoing it leaves
what is nearly so (the P_N space of Zhu et al. 2020, "Improved StyleGAN embedding: where are the
good latents?"). Components that carry next to nothing are left out: whitening would blow up their
noise.
"""

import dataclasses
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead.latent import Latent
from gghead.models.prior_config import TokenShape
from gghead.networks.layers import LRELU_SLOPE
from gghead.torch_utils.errors import UserError

_SAME = 1e-5  # styles that differ by no more are the same


class LatentTokens(nn.Module):
    """Turns latents into vectors [B, D] of mean zero and variance one, and back."""

    w_mean: Tensor  # [rows, w_dim]
    w_basis: Tensor  # [w_components, w_dim]
    w_scale: Tensor  # [w_components]
    z_mean: Tensor  # [channels, side, side]; of shapes with channels, as the next two
    z_basis: Tensor  # [z_components, channels]
    z_scale: Tensor  # [z_components]

    def __init__(self, shape: TokenShape) -> None:
        super().__init__()
        self.shape = shape
        buffers = {
            "w_mean": (shape.rows, shape.w_dim),
            "w_basis": (shape.w_components, shape.w_dim),
            "w_scale": (shape.w_components,),
        }
        if shape.channels:
            buffers |= {
                "z_mean": (shape.channels, shape.side, shape.side),
                "z_basis": (shape.z_components, shape.channels),
                "z_scale": (shape.z_components,),
            }
        for name, size in buffers.items():
            self.register_buffer(name, torch.zeros(size))

    @property
    def kinds(self) -> list[tuple[int, int]]:
        """(tokens, numbers per token) of styles and, if there is one, the residual."""
        shape = self.shape
        kinds = [(shape.rows, shape.w_components)]
        return (
            kinds + [(shape.patches, shape.z_components * shape.patch**2)]
            if shape.channels
            else kinds
        )

    def encode(self, latent: Latent) -> Tensor:  # [B, D]
        """Return whitened tokens; no residual is a residual of zero.

        Deltas and cameras are left out.
        """
        shape = self.shape
        w = (
            (before_rectifier(latent.ws[:, : shape.rows]) - self.w_mean)
            @ self.w_basis.T
            / self.w_scale
        )
        if not shape.channels:
            return w.flatten(1)
        z = (
            latent.residual
            if latent.residual is not None
            else self.z_mean.new_zeros(len(latent), *self.z_mean.shape)
        )
        z = (
            torch.einsum("kc,bcij->bkij", self.z_basis, z - self.z_mean)
            / self.z_scale[:, None, None]
        )
        return torch.cat([w.flatten(1), _to_patches(z, shape.patch).flatten(1)], dim=1)

    def decode(self, x: Tensor) -> Latent:  # [B, D]
        """Return latents; what the left-out components held is the training set's mean."""
        shape = self.shape
        w, z = x.split(list(shape.sizes), dim=1)
        w = (w.unflatten(1, (shape.rows, -1)) * self.w_scale) @ self.w_basis + self.w_mean
        w = F.leaky_relu(w, LRELU_SLOPE).expand(-1, shape.num_ws, -1).contiguous()
        if not shape.channels:
            return Latent(w)
        z = (
            _from_patches(z, shape.z_components, shape.side, shape.patch)
            * self.z_scale[:, None, None]
        )
        return Latent(w, torch.einsum("kc,bkij->bcij", self.z_basis, z) + self.z_mean)

    def spread(self, x: Tensor) -> Tensor:  # [B, D] -> [B, D]
        """Undo the whitening, so that distances count every component by its variance.

        Scaled such that two unrelated heads are about sqrt(2) apart; styles and residual have equal
        shares.
        """
        shape, kinds = self.shape, len(self.kinds)
        parts = list(x.split(list(shape.sizes), dim=1))
        weight = self.w_scale / (kinds * shape.rows * self.w_scale.square().sum()).sqrt()
        parts[0] = (parts[0].unflatten(1, (shape.rows, -1)) * weight).flatten(1)
        if shape.channels:
            weight = self.z_scale / (kinds * shape.side**2 * self.z_scale.square().sum()).sqrt()
            each = parts[1].unflatten(1, (shape.patches, shape.z_components, -1))
            parts[1] = (each * weight[:, None]).flatten(1)
        return torch.cat(parts, dim=1)


def before_rectifier(ws: Tensor) -> Tensor:
    """Undo the mapping network's last leaky rectifier, but for its gain."""
    return F.leaky_relu(ws, 1 / LRELU_SLOPE)


def fit_tokens(
    latents: Iterable[Latent], patch: int, w_share: float, z_share: float, z_limit: int
) -> LatentTokens:
    """Measure means and principal components over ``latents``.

    Batches may be of any size. They are read twice, so it must be no iterator.

    Components are kept until they explain ``w_share`` of the styles' variance and ``z_share`` of
    the residual's (at most ``z_limit`` of these). Raises ``UserError`` for fewer than two heads, or
    heads that are all the same.
    """
    count, rows_differ = 0, False
    w_sum: Tensor | None = None
    z_sum: Tensor | None = None
    for latent in latents:
        count += len(latent)
        rows_differ |= bool((latent.ws - latent.ws[:, :1]).abs().amax() > _SAME)
        w = before_rectifier(latent.ws).double().sum(0)
        w_sum = w if w_sum is None else w_sum + w
        if latent.residual is not None:
            z = latent.residual.double().sum(0)
            z_sum = z if z_sum is None else z_sum + z
    if count < 2 or w_sum is None:
        raise UserError(
            f"A prior needs many latents, but there {'is 1' if count else 'are none'}; name a"
            " folder of latent files, or draw samples=20000."
        )
    rows = w_sum.shape[0] if rows_differ else 1
    w_mean, z_mean = w_sum[:rows] / count, None if z_sum is None else z_sum / count
    w_cov = z_cov = w_sum.new_zeros(())
    for latent in latents:
        w = (before_rectifier(latent.ws[:, :rows]).double() - w_mean).flatten(0, 1)
        w_cov = w_cov + w.T @ w / (count * rows)
        if z_mean is not None:
            z = -z_mean[None] if latent.residual is None else latent.residual.double() - z_mean
            z = z.expand(len(latent), -1, -1, -1).transpose(0, 1).flatten(1)
            z_cov = z_cov + z @ z.T / (count * z_mean[0].numel())
    w_basis, w_scale = _components(w_cov, w_share)
    if not float(w_scale[0]) > 0:
        raise UserError(f"All {count} latents have the same styles: there is nothing to learn.")
    shape = TokenShape(
        num_ws=w_sum.shape[0], w_dim=w_sum.shape[1], rows=rows, w_components=len(w_scale)
    )
    tensors = {"w_mean": w_mean, "w_basis": w_basis, "w_scale": w_scale}
    if z_mean is not None:
        z_basis, z_scale = _components(z_cov, z_share, z_limit)
        channels, side = z_mean.shape[:2]
        if side % patch:
            raise UserError(
                f"The patch of {patch} texels does not divide the residual's side of {side}."
            )
        shape = dataclasses.replace(
            shape, channels=channels, side=side, z_components=len(z_scale), patch=patch
        )
        tensors |= {"z_mean": z_mean, "z_basis": z_basis, "z_scale": z_scale}
    tokens = LatentTokens(shape)
    tokens.load_state_dict({name: value.float() for name, value in tensors.items()})
    return tokens


def _components(
    covariance: Tensor, share: float, limit: int | None = None
) -> tuple[Tensor, Tensor]:
    """Principal components [K, D] and deviations [K] that explain ``share`` of the variance."""
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1).T
    explained = values.cumsum(0) / values.sum().clamp_min(1e-30)
    count = min(int((explained < share).sum()) + 1, len(values))
    # A direction that no latent varies in cannot be divided by its deviation.
    count = max(min(count, int((values > 1e-9 * values[0]).sum()), limit or count), 1)
    kept = vectors[:count]
    kept = kept * kept.gather(1, kept.abs().argmax(1, keepdim=True)).sign()
    return kept, values[:count].sqrt()


def _to_patches(z: Tensor, patch: int) -> Tensor:  # [B, K, R, R] -> [B, T, K * patch^2]
    batch, channels, side, _ = z.shape
    count = side // patch
    z = z.reshape(batch, channels, count, patch, count, patch)
    return z.permute(0, 2, 4, 1, 3, 5).reshape(batch, count * count, -1)


# [B, D] -> [B, K, R, R]
def _from_patches(x: Tensor, channels: int, side: int, patch: int) -> Tensor:
    count = side // patch
    x = x.reshape(len(x), count, count, channels, patch, patch)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(len(x), channels, side, side)
