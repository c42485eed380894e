"""Mapping network z (and camera label) -> w, with a running mean of w for the truncation trick."""

import torch
from torch import Tensor, nn

from gghead.networks.layers import Linear, normalize_second_moment
from gghead.torch_utils.checks import at_least_float32, check_shape


class MappingNetwork(nn.Module):
    """StyleGAN2 mapping network.

    With ``c_dim > 0`` the camera label is embedded and concatenated to z (EG3D).
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int,
        depth: int = 2,
        *,
        lr_multiplier: float = 0.01,
        w_avg_beta: float = 0.998,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws, self.w_avg_beta = (
            z_dim,
            c_dim,
            w_dim,
            num_ws,
            w_avg_beta,
        )
        self.embed = Linear(c_dim, w_dim) if c_dim else None
        widths = [z_dim + (w_dim if c_dim else 0)] + [w_dim] * depth
        self.layers = nn.ModuleList(
            Linear(widths[i], widths[i + 1], activation="lrelu", lr_multiplier=lr_multiplier)
            for i in range(depth)
        )
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor,  # [B, z_dim]
        c: Tensor | None = None,  # [B, c_dim]
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,  # truncate only the first so many w
        update_w_avg: bool = False,
    ) -> Tensor:  # [B, num_ws, w_dim]
        """Map latents to styles. Raises ``ValueError`` for wrong shapes."""
        check_shape("z", z, (self.z_dim,))
        x = normalize_second_moment(at_least_float32(z))
        if self.embed is not None:
            if c is None:
                raise ValueError("This generator is conditioned on the camera: pass c [B, 25].")
            check_shape("c", c, (self.c_dim,))
            x = torch.cat([x, normalize_second_moment(self.embed(c.to(x.dtype)))], dim=1)
        for layer in self.layers:
            x = layer(x)
        if update_w_avg:
            self.w_avg.copy_(x.detach().mean(dim=0).lerp(self.w_avg, self.w_avg_beta))
        ws = x[:, None].repeat(1, self.num_ws, 1)
        if truncation_psi != 1.0:
            cut = self.num_ws if truncation_cutoff is None else truncation_cutoff
            ws = torch.cat(
                [self.w_avg.to(ws.dtype).lerp(ws[:, :cut], truncation_psi), ws[:, cut:]], dim=1
            )
        return ws
