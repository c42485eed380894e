"""The generator: z -> w -> Z -> UV planes -> Gaussians -> images."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Unpack

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.models.attributes import GaussianAttributes
from gghead.models.config import GeneratorConfig
from gghead.networks.background import BackgroundNetwork
from gghead.networks.mapping import MappingNetwork
from gghead.networks.synthesis import Decoder, Synthesis
from gghead.rendering import RenderOutput, render
from gghead.rendering.render import RenderOptions
from gghead.template import Template, load_template
from gghead.template.texels import texel_maps
from gghead.torch_utils.errors import UserError

LABEL_DIM = 25
_FACE = ("eyes", "mouth", "lips")  # regions of the template
_BF16 = 2.0**-8  # relative rounding of bfloat16
# image sides that a world unit covers at the usual distance and focal length
_SIDES_PER_UNIT = 1.58
_HARMLESS = 0.05  # pixels


class Generator(nn.Module):
    """A GGHead generator.

    ``dtype`` is the precision of the convolutions (see ``bearable``); geometry and rendering stay
    float32.
    """

    samples_seeds = True
    """Whether seeds give heads; not so behind an encoder that was trained without a GAN."""

    def __init__(self, config: GeneratorConfig, template: Template | None = None) -> None:
        super().__init__()
        _check(config)
        self.config, self.dtype = config, torch.float32
        self.template = load_template(config.template) if template is None else template
        widths = {"cbase": config.cbase, "cmax": config.cmax, "uv_maps": config.uv_maps}
        self.synthesis = Synthesis(config.w_dim, config.latent_resolution, **widths)
        self.decoder = Decoder(
            config.w_dim,
            config.latent_resolution,
            config.plane_resolution,
            sum(config.attributes.channels.values()),
            **widths,
        )
        self.num_ws = self.synthesis.num_ws + self.decoder.num_ws
        c_dim = LABEL_DIM if config.pose_cond else 0
        self.mapping = MappingNetwork(
            config.z_dim, c_dim, config.w_dim, self.num_ws, config.map_depth
        )
        self.attributes = GaussianAttributes(config.attributes, self.template, config.grid)
        self.background_network, self.background_attributes = self._build_background()

    @property
    def z_dim(self) -> int:
        return self.config.z_dim

    @property
    def c_dim(self) -> int:
        return self.mapping.c_dim

    @property
    def device(self) -> torch.device:
        return self.mapping.w_avg.device

    def set_grid(self, grid: int) -> None:
        """Change the number of Gaussians (about ``grid``^2); the networks do not change."""
        if grid != self.attributes.grid:
            self.attributes = GaussianAttributes(self.config.attributes, self.template, grid).to(
                self.device
            )

    def latent(
        self, ws: Tensor, noise_mode: str = "const", generator: torch.Generator | None = None
    ) -> Tensor:
        """Styles [B, num_ws, w_dim] -> Z [B, C, R, R]."""
        return self.synthesis(ws[:, : self.synthesis.num_ws], noise_mode, generator, self.dtype)

    def decode(
        self,
        z: Tensor,
        ws: Tensor,
        noise_mode: str = "const",
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """(Z, styles) -> raw attributes per Gaussian, each [B, N, C_k]."""
        planes = self.decoder(z, ws[:, self.synthesis.num_ws :], noise_mode, generator)
        return self.attributes.sample(planes)

    def raw_attributes(
        self, ws: Tensor, noise_mode: str = "const", generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Styles -> raw attributes, the input of the regularizers and of ``assemble``."""
        return self.decode(self.latent(ws, noise_mode, generator), ws, noise_mode, generator)

    def gaussians(
        self, ws: Tensor, noise_mode: str = "const", generator: torch.Generator | None = None
    ) -> Gaussians:
        """Styles [B, num_ws, w_dim] -> Gaussians [B, N] of heads and of any background plane.

        With a background plane ``features[..., 0]`` is 1 for the head and 0 for the background.
        """
        return self.assemble(self.raw_attributes(ws, noise_mode, generator), ws)

    def assemble(self, raw: dict[str, Tensor], ws: Tensor) -> Gaussians:
        """Raw attributes -> Gaussians, with the background plane appended if there is one."""
        head = replace(self.attributes.activate(raw), training_size=self.config.image_size)
        network, attributes = self.background_network, self.background_attributes
        if network is None or attributes is None:
            return head
        planes = network(ws[:, -1], dtype=self.dtype)
        back = attributes.activate(attributes.sample(planes))
        head.features, back.features = (
            torch.ones_like(head.means[..., :1]),
            torch.zeros_like(back.means[..., :1]),
        )
        return Gaussians.merge([head, back])

    def features_of_face(self) -> Tensor:  # [N, 1]
        """1 on the Gaussians of eyes, lips and mouth, which losses give more weight, else 0."""
        texels = texel_maps(self.template, self.attributes.grid)
        wanted = [texels.region_names.index(n) for n in _FACE if n in texels.region_names]
        inside = torch.isin(texels.region.flatten(), torch.tensor(wanted))
        return inside.to(self.device)[self.attributes.valid].float()[:, None]

    def background_image(self, ws: Tensor, size: int) -> Tensor | None:
        """The background network's image [B, 3, size, size] in [0, 1].

        ``None`` for other kinds of background.
        """
        network = self.background_network
        if network is None or self.background_attributes is not None:
            return None
        image = network(ws[:, -1], dtype=self.dtype).sigmoid()
        return F.interpolate(image, size=(size, size), mode="bilinear", align_corners=False)

    def render(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        size: int | tuple[int, int] | None = None,
        # color [B, 3] or image [B, 3, size, size] in [0, 1]; None: white
        background: Tensor | None = None,
        **options: Unpack[RenderOptions],  # of ``gghead.render``
    ) -> RenderOutput:
        """Render over a background: the given one, else white.

        See ``gghead.render`` for the shapes.

        Where Gaussians of a background plane are among them, ``alpha`` and ``uv`` are those of the
        head alone.

        Above this network's image size the low-pass filter grows, whatever ``training_size`` the
        Gaussians have.
        """
        size = size or self.config.image_size
        gaussians = replace(gaussians, training_size=self.config.image_size)
        parts = gaussians.features if self.background_attributes is not None else None
        if parts is not None:
            options["features"] = True
            # the plane's texels are no places on the head's UV square
            if options.get("uv") and gaussians.uv is not None:
                gaussians = replace(gaussians, uv=gaussians.uv * parts[..., :1])
        if background is None:
            background = gaussians.means.new_ones(1, 3)
        if background.ndim == 2:
            out = render(gaussians, cameras, size, background=background[:, None], **options)
        else:
            out = render(gaussians, cameras, size, background=None, **options)
            out.color = out.color + (1.0 - out.alpha) * background[:, None].to(out.color)
        if parts is not None:
            assert out.features is not None
            out.alpha = out.features[:, :, :1]
        return out

    def images(
        self,
        ws: Tensor,
        cameras: Cameras,
        size: int | None = None,
        background: Tensor | None = None,
        noise_mode: str = "const",
        generator: torch.Generator | None = None,
    ) -> RenderOutput:
        """Styles and cameras -> heads over the model's own background (or ``background``)."""
        size = size or self.config.image_size
        own = self.background_image(ws, size)
        return self.render(
            self.gaussians(ws, noise_mode, generator),
            cameras,
            size,
            background=own if own is not None else background,
        )

    @torch.no_grad()
    def sample(
        self,
        seed: int | Iterable[int],
        psi: float = 1.0,
        cutoff: int | None = None,
        noise_mode: str = "const",
    ) -> Gaussians:
        """Draw one head [1, N] for one seed, a batch [B, N] for several.

        z is ``RandomState(seed).randn(1, z_dim)``, as in StyleGAN's tools. Each seed runs alone, so
        that its head does not depend on the others.
        """
        if isinstance(seed, Iterable):
            return Gaussians.stack([self.sample(one, psi, cutoff, noise_mode) for one in seed])
        ws = self.mapping(self.seed_to_z(seed), self.neutral_label(), psi, cutoff)
        return self.gaussians(ws, noise_mode)

    def seed_to_z(self, seed: int) -> Tensor:  # [1, z_dim]
        """The latent of a seed, the same on every machine.

        Raises ``UserError`` where the network knows no seeds, and for a seed that ``RandomState``
        does not take.
        """
        if not self.samples_seeds:
            raise UserError(
                "This network decodes what its encoder sees; it was never trained on seeds. Give it"
                " latents (of a reconstruction or an inversion), or draw them from a `prior=FILE`."
            )
        if not 0 <= seed < 2**32:
            raise UserError(f"Seeds lie between 0 and {2**32 - 1}, but {seed} is asked for.")
        z = np.random.RandomState(seed).randn(1, self.z_dim)
        return torch.from_numpy(z.astype(np.float32)).to(self.device)

    def neutral_label(self) -> Tensor | None:  # [1, 25]
        """The frontal camera's label, for conditioning; ``None`` for an unconditional generator."""
        return Cameras.orbit(0.0).label().to(self.device) if self.c_dim else None

    def _build_background(self) -> tuple[BackgroundNetwork | None, GaussianAttributes | None]:
        config, background = self.config, self.config.background
        if background.kind == "none":
            return None, None
        plane = background.kind == "gaussians"
        channels = sum(config.attributes.channels.values()) if plane else 3
        network = BackgroundNetwork(
            config.w_dim, background.resolution, channels, background.cbase, background.cmax
        )
        if not plane:
            return network, None
        attributes = GaussianAttributes(
            config.attributes, load_template("plane"), background.resolution
        )
        span = attributes.position[:, :2].amax(dim=0) - attributes.position[:, :2].amin(dim=0)
        factor = 2.0 * background.half_width / float(span.max())
        attributes.position.mul_(factor)[:, 2] = background.depth
        attributes.log_spacing.add_(float(np.log(factor)))
        return network, attributes


def bearable(config: GeneratorConfig, dtype: torch.dtype) -> torch.dtype:
    """``dtype``, or float32 where convolutions in a lower precision would visibly move Gaussians.

    Rounding moves every Gaussian by itself. Where the network's output reaches far, as with
    GGHead's own ranges, bf16 moves them by 1 to 2 pixels (root mean square at 512): a discriminator
    would judge noise that nobody gets, since snapshots are loaded in float32. Z in bf16 is enough
    for that, so the whole generator counts. TF32 moves them by 0.2 pixels. Presets whose positions
    are damped (``position_gain``) stay below 0.05 pixels at 64.
    """
    attributes = config.attributes
    moved = (
        attributes.position_range
        * attributes.position_gain
        * _SIDES_PER_UNIT
        * config.image_size
        * _BF16
    )
    return torch.float32 if moved > _HARMLESS else dtype


def _check(config: GeneratorConfig) -> None:
    for name in ("plane_resolution", "latent_resolution"):
        value = getattr(config, name)
        if value < 4 or value & (value - 1):
            raise UserError(f"{name} must be a power of two of at least 4, but it is {value}.")
    if config.latent_resolution > config.plane_resolution:
        raise UserError(
            f"latent_resolution ({config.latent_resolution}) must not exceed plane_resolution "
            f"({config.plane_resolution})."
        )
