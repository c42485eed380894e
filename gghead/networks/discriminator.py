"""StyleGAN2 residual discriminator, conditioned on the camera by projection.

It grows in resolution with a fade-in.
"""

import math
import re

import torch
from torch import Tensor, nn

from gghead.networks.layers import Conv2d, Linear, normalize_second_moment
from gghead.networks.synthesis import channels_at, resolutions
from gghead.torch_utils.checks import at_least_float32
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.ops.resample import downsample2x, fir_kernel


class DiscriminatorBlock(nn.Module):
    """Residual block that halves the resolution; both branches carry sqrt(1/2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv0 = Conv2d(in_channels, in_channels, 3)
        self.conv1 = Conv2d(in_channels, out_channels, 3, down=True, gain=math.sqrt(0.5))
        self.skip = Conv2d(
            in_channels,
            out_channels,
            1,
            activation="linear",
            down=True,
            bias=False,
            gain=math.sqrt(0.5),
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, I, R, R] -> [B, O, R / 2, R / 2]
        return self.skip(x) + self.conv1(self.conv0(x))


def minibatch_std(x: Tensor, group_size: int) -> Tensor:  # [B, C, H, W] -> [B, C + 1, H, W]
    """Append the mean standard deviation over groups of consecutive samples.

    Karras et al. 2018, section 3.

    Groups are consecutive so that a batch split over processes gives the same groups as the whole
    batch.
    """
    batch, channels, height, width = x.shape
    group = math.gcd(batch, group_size)
    y = x.reshape(batch // group, group, channels, height, width)
    std = (y.var(dim=1, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return torch.cat(
        [x, std.repeat_interleave(group)[:, None, None, None].expand(-1, 1, height, width)], dim=1
    )


class CameraEmbedding(nn.Module):
    """Camera label -> vector for the projection, through a mapping network without z.

    Miyato and Koyama 2018.
    """

    def __init__(
        self, c_dim: int, out_features: int, depth: int, lr_multiplier: float = 0.01
    ) -> None:
        super().__init__()
        self.embed = Linear(c_dim, out_features)
        self.layers = nn.ModuleList(
            Linear(out_features, out_features, activation="lrelu", lr_multiplier=lr_multiplier)
            for _ in range(depth)
        )

    def forward(self, c: Tensor) -> Tensor:  # [B, c_dim] -> [B, out_features]
        x = normalize_second_moment(self.embed(c))
        for layer in self.layers:
            x = layer(x)
        return x


class Discriminator(nn.Module):
    """Scores images of any of ``image_sizes``; every such size has its own input layer.

    During a fade-in the new block's output is blended with the input layer of the previous size
    (Karras et al. 2018, figure 2): ``alpha`` 0 ignores the new block, 1 is the grown network.
    """

    fir: Tensor

    def __init__(
        self,
        image_sizes: tuple[int, ...],
        *,
        channels: int = 3,
        cbase: int = 32768,
        cmax: int = 512,
        c_dim: int = 25,
        map_depth: int = 8,
        cmap_dim: int | None = None,
        mbstd_group: int = 4,
    ) -> None:
        super().__init__()
        self.image_sizes, self.channels, self.mbstd_group = (
            tuple(sorted(set(image_sizes))),
            channels,
            mbstd_group,
        )
        top = channels_at(4, cbase, cmax)
        self.blocks, self.from_rgb = nn.ModuleDict(), nn.ModuleDict()
        for size in resolutions(8, self.image_sizes[-1]):
            width = channels_at(size, cbase, cmax)
            self.blocks[str(size)] = DiscriminatorBlock(width, channels_at(size // 2, cbase, cmax))
            if size in self.image_sizes:
                self.from_rgb[str(size)] = Conv2d(channels, width, 1)
        self.cmap_dim = (cmap_dim or top) if c_dim else 0
        self.camera = CameraEmbedding(c_dim, self.cmap_dim, map_depth) if c_dim else None
        self.conv = Conv2d(top + 1, top, 3)
        self.fc = Linear(top * 16, top, activation="lrelu")
        self.out = Linear(top, self.cmap_dim or 1)
        self.register_buffer("fir", fir_kernel(), persistent=False)

    def forward(
        self,
        images: Tensor,  # [B, channels, S, S] in [-1, 1]
        c: Tensor | None,  # [B, c_dim]
        alpha: float = 1.0,  # fade-in of the block at S
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:  # [B] logits, float32 or float64
        """Raises ``ValueError`` for an image size that the network was not built for."""
        x = self.features(images, alpha, dtype)[-1]
        x = self.conv(minibatch_std(at_least_float32(x), self.mbstd_group))
        x = self.out(self.fc(x.flatten(1)))
        if self.camera is None:
            return x[:, 0]
        if c is None:
            raise ValueError("This discriminator is conditional: it needs camera labels c.")
        return (x * self.camera(at_least_float32(c))).sum(dim=1) / math.sqrt(self.cmap_dim)

    def features(
        self, images: Tensor, alpha: float = 1.0, dtype: torch.dtype = torch.float32
    ) -> list[Tensor]:
        """The activations after every block, from the finest to 4x4.

        Arguments and errors as ``forward``'s.
        """
        size = images.shape[-1]
        if size not in self.image_sizes:
            raise ValueError(
                f"The discriminator takes images of {self.image_sizes} pixels, but they have"
                f" {size}."
            )
        x = self.from_rgb[str(size)](images.to(dtype, memory_format=torch.channels_last))
        x = self.blocks[str(size)](x)
        if alpha < 1.0:
            half = downsample2x(images, self.fir).to(dtype, memory_format=torch.channels_last)
            x = x * alpha + self._input_at(size // 2, half) * (1.0 - alpha)
        found = [x]
        while (size := size // 2) > 4:
            found.append(self.blocks[str(size)](found[-1]))
        return found

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor]) -> "Discriminator":
        """Build the network that ``state`` is of, in evaluation.

        The group size of the minibatch statistics is not in the state: it is the default. Raises
        ``UserError`` if ``state`` is of no discriminator.
        """
        try:
            sizes = tuple(
                int(key.split(".")[1])
                for key in state
                if re.fullmatch(r"from_rgb\.\d+\.weight", key)
            )
            width, channels = state[f"from_rgb.{max(sizes)}.weight"].shape[:2]
            cond = "camera.embed.weight" in state
            network = cls(
                sizes,
                channels=channels,
                cbase=width * max(sizes),
                cmax=state["fc.weight"].shape[0],
                c_dim=state["camera.embed.weight"].shape[1] if cond else 0,
                map_depth=sum(
                    bool(re.fullmatch(r"camera\.layers\.\d+\.weight", key)) for key in state
                ),
                cmap_dim=state["out.weight"].shape[0] if cond else None,
            )
            network.load_state_dict(state)
        except (KeyError, ValueError, IndexError, RuntimeError) as error:
            raise UserError(
                f"these are not the weights of a discriminator ({str(error).splitlines()[0]})"
            ) from error
        return network.eval()

    def _input_at(self, size: int, images: Tensor) -> Tensor:
        if str(size) not in self.from_rgb:
            raise UserError(
                f"A fade-in to {size * 2} pixels needs a stage at {size} pixels before it."
            )
        return self.from_rgb[str(size)](images)
