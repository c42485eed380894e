"""From raw UV planes to Gaussian attributes.

Ranges and activations of GGHead, with biases that start at the template.

Raw zero means: the Gaussian sits on the template, is about as wide as its texel, lies in the
tangent plane, is mid-gray and nearly opaque. Therefore an untrained network with zero-initialized
outputs renders the plain template.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead.gaussians import Gaussians
from gghead.models.config import AttributeConfig
from gghead.rotations import matrix_to_quat, quat_multiply, rotation_6d_to_matrix
from gghead.sh import C0
from gghead.template import Template
from gghead.template.texels import texel_maps
from gghead.torch_utils.errors import UserError


class GaussianAttributes(nn.Module):
    """The template sampled at a grid of texels, and the activations of raw planes there."""

    valid: Tensor  # [grid * grid], bool
    uv: Tensor  # [N, 2]
    position: Tensor  # [N, 3]
    quats: Tensor  # [N, 4]
    log_spacing: Tensor  # [N, 3]

    def __init__(self, config: AttributeConfig, template: Template, grid: int) -> None:
        super().__init__()
        if config.sh_degree not in (0, 1):
            raise UserError(f"attributes.sh_degree must be 0 or 1, but it is {config.sh_degree}.")
        if not config.scale_min < config.scale_init < config.scale_max:
            raise UserError(
                "attributes.scale_init must lie between attributes.scale_min and"
                " attributes.scale_max."
            )
        self.config, self.grid = config, grid
        texels = texel_maps(template, grid)
        valid = texels.mask.flatten()
        self.all_valid = bool(valid.all())

        def pick(texel_map: Tensor) -> Tensor:  # [C, R, R] -> [N, C]
            return texel_map.flatten(-2)[..., valid].movedim(-1, 0).contiguous()

        center = (torch.arange(grid, dtype=torch.float32) + 0.5) * (2.0 / grid) - 1.0
        uv = torch.stack(torch.meshgrid(center, center, indexing="xy"))
        spacing = pick(texels.spacing)
        mean = spacing.log().mean(dim=1, keepdim=True).exp()
        if config.rotation_frame in ("tangent", "surface"):
            spacing = torch.cat([spacing, mean * config.thickness], dim=1)
            # columns are tangent, bitangent, normal
            frame = pick(texels.frame.flatten(0, 1)).reshape(-1, 3, 3)
            quats = matrix_to_quat(frame if config.rotation_frame == "surface" else frame.mT)
        else:
            spacing = mean.expand(-1, 3).contiguous()
            quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(spacing), 4).contiguous()
        # Derived from the template, so not part of a checkpoint.
        for name, value in {
            "valid": valid,
            "uv": pick(uv),
            "position": pick(texels.position),
            "quats": quats,
            "log_spacing": spacing.log(),
        }.items():
            self.register_buffer(name, value, persistent=False)

    @property
    def num(self) -> int:
        """Number of Gaussians."""
        return len(self.position)

    # [B, C, P, P] -> raw attributes [B, N, C_k]
    def sample(self, planes: Tensor) -> dict[str, Tensor]:
        """Sample the raw planes at the grid's texels, and split them.

        Sampling is bilinear, and exact where grid and plane agree.
        """
        planes = self._smooth_geometry(planes)
        if planes.shape[-1] != self.grid:
            grid = self.uv if self.all_valid else None
            if grid is not None:
                grid = grid.reshape(1, self.grid, self.grid, 2).expand(len(planes), -1, -1, -1)
                planes = F.grid_sample(
                    planes, grid, mode="bilinear", padding_mode="border", align_corners=False
                )
                raw = planes.permute(0, 2, 3, 1).flatten(1, 2)
            else:
                grid = self.uv[None, None].expand(len(planes), -1, -1, -1)
                planes = F.grid_sample(
                    planes, grid, mode="bilinear", padding_mode="border", align_corners=False
                )
                raw = planes[:, :, 0].transpose(1, 2)
        else:
            raw = planes.permute(0, 2, 3, 1).flatten(1, 2)
            if not self.all_valid:
                raw = raw[:, self.valid]
        channels = self.config.channels
        attributes = dict(zip(channels, raw.split(list(channels.values()), dim=2), strict=True))
        attributes["position"] = attributes["position"] * self.config.position_gain
        return attributes

    # raw attributes [B, N, C_k] -> Gaussians [B, N]
    def activate(self, raw: dict[str, Tensor]) -> Gaussians:
        """Apply the activations; see the module's first lines for what raw zero means."""
        config, batch = self.config, len(raw["position"])
        means = self.position + config.position_range * raw["position"].tanh()
        quats = quat_multiply(
            self.quats.expand(batch, -1, -1), self._local_rotation(raw["rotation"])
        )
        opacity_bias = math.log(config.opacity_init / (1.0 - config.opacity_init))
        return Gaussians(
            means=means,
            quats=quats,
            scales=self._log_scale(raw["scale"]).exp(),
            opacities=(raw["opacity"][..., 0] + opacity_bias).sigmoid(),
            colors=self._color(raw["color"]),
            sh_degree=config.sh_degree or None,
            uv=self.uv.expand(batch, -1, -1),
        )

    @property
    def spacing(self) -> Tensor:  # [N]
        """Distance of neighboring Gaussians along the template's surface, world units."""
        return self.log_spacing[:, :2].mean(dim=1).exp()

    def on_grid(self, values: Tensor) -> Tensor:  # [B, N, C] -> [B, C, grid, grid]
        """Values per Gaussian back on the UV grid; zero where there is no Gaussian."""
        if not self.all_valid:
            full = values.new_zeros(len(values), self.grid**2, values.shape[2])
            full[:, self.valid] = values
            values = full
        return values.transpose(1, 2).unflatten(2, (self.grid, self.grid))

    def offset_of_cells(self, gaussians: Gaussians, side: int) -> tuple[Tensor, Tensor]:
        """Mean offset from the template of the Gaussians in each cell of a coarser grid.

        The cells' filled shares come with it.

        Returns [B, 3, side, side] world units, zero where there are no Gaussians, and [1, 1, side,
        side].
        """
        share = F.adaptive_avg_pool2d(
            self.on_grid(torch.ones_like(self.position[None, :, :1])), side
        )
        moved = F.adaptive_avg_pool2d(self.on_grid(gaussians.means - self.position), side)
        return moved / share.clamp_min(1e-6), share

    def _smooth_geometry(self, planes: Tensor) -> Tensor:  # [B, C, P, P] -> same
        """Average the geometry channels over blocks and interpolate between these.

        So the head has a surface instead of single splats that trade places in depth, which shows
        as dots.
        """
        factor, channels = self.config.geometry_smoothing, self.config.channels
        if factor == 1:
            return planes
        if planes.shape[-1] % factor:
            raise UserError(
                f"attributes.geometry_smoothing ({factor}) must divide the plane resolution "
                f"({planes.shape[-1]})."
            )
        geometry = channels["position"] + channels["scale"] + channels["rotation"]
        smooth = F.interpolate(
            F.avg_pool2d(planes[:, :geometry], factor),
            scale_factor=factor,
            mode="bilinear",
            align_corners=False,
        )
        return torch.cat([smooth, planes[:, geometry:]], dim=1)

    def _local_rotation(self, raw: Tensor) -> Tensor:
        if self.config.rotation == "6d":
            identity = raw.new_tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
            return matrix_to_quat(rotation_6d_to_matrix(raw + identity))
        return F.normalize(raw + raw.new_tensor([1.0, 0.0, 0.0, 0.0]), dim=-1)

    def _log_scale(self, raw: Tensor) -> Tensor:
        config = self.config
        if config.scale_mode == "absolute":
            return -3.0 - F.softplus(2.0 - raw)  # GGHead: at most exp(-3), 0.0059 at raw zero
        low, high, start = (
            math.log(config.scale_min),
            math.log(config.scale_max),
            math.log(config.scale_init),
        )
        bias = math.log((start - low) / (high - start))
        # unit slope of the log-scale at raw zero
        slope = (high - low) / ((start - low) * (high - start))
        return self.log_spacing + low + (high - low) * (raw * slope + bias).sigmoid()

    def _color(self, raw: Tensor) -> Tensor:
        overshoot = self.config.color_overshoot
        if self.config.sh_degree == 0:
            return raw.sigmoid() * (1.0 + 2.0 * overshoot) - overshoot
        coefficients = (raw.tanh() * (1.0 + 2.0 * overshoot) - overshoot) * (0.5 / C0)
        return coefficients.unflatten(-1, (4, 3))
