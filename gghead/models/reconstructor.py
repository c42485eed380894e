"""Views of one head -> its latent, in one pass.

HeadsUp's encoder in front of the generator's own decoder.

The latent is the one that inversion finds and seeds give: styles w+ and what is added to Z. So
everything that takes a latent takes a reconstruction, and the decoder cannot tell where its input
comes from.
"""

import contextlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.latent import Latent
from gghead.models.generator import Generator, bearable
from gghead.models.reconstructor_config import ReconstructorConfig
from gghead.networks.background import RigBackground
from gghead.networks.correction import Correction
from gghead.networks.uv_transformer import Lookup, UVTransformer, zero_layer
from gghead.networks.view_encoder import ViewEncoder, ViewLookup
from gghead.rendering import render
from gghead.template import Template
from gghead.template.texels import texel_maps
from gghead.torch_utils.errors import UserError


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the encoder says of a batch of heads."""

    latent: Latent
    """Styles and residual [B, …] of the generator."""
    offset: Tensor | None
    """[B, T, 3] the encoder's own idea of where the surface lies beside the template (guided
    encoders)."""
    background: Gaussians | None
    """What stands around the head [B, M], if the model has a background branch."""


class Reconstructor(nn.Module):
    """The reconstructor: views of a head -> its latent.

    ``dtype`` is the precision of convolutions and attention. Geometry and rendering stay float32,
    and so does a decoder whose Gaussians bear nothing less (``gghead.models.generator.bearable``).
    """

    def __init__(self, config: ReconstructorConfig, template: Template | None = None) -> None:
        super().__init__()
        self.config, self._dtype = config, torch.float32
        self.generator = Generator(config.generator, template)
        self.encoder = ViewEncoder(config.channels, config.blocks)
        side, template = config.generator.latent_resolution, self.generator.template
        self.lookup = None
        if config.guided:
            if not 0 <= config.fine_level < len(config.channels):
                raise UserError(
                    f"fine_level must name one of the {len(config.channels)} levels of the image"
                    f" encoder, but it is {config.fine_level}."
                )
            self.lookup = ViewLookup(
                template, side, config.detail, config.channels[config.fine_level]
            )
        self.transformer = UVTransformer(
            texel_maps(template, side).position,
            config.width,
            config.layers,
            config.heads,
            config.mlp_ratio,
            config.channels[-1],
            None if self.lookup is None else self.lookup.channels,
            config.mixing,
        )
        self.to_residual = nn.Linear(config.width, self.generator.synthesis.out_channels)
        self.to_styles = nn.Linear(config.width, self.generator.num_ws * config.generator.w_dim)
        # so an untrained encoder gives the average head
        zero_layer(self.to_residual)
        zero_layer(self.to_styles)
        self.correction = None
        if config.corrections > 0:
            self.correction = Correction(
                template,
                side,
                config.detail,
                config.width,
                config.heads,
                config.mlp_ratio,
                config.correction_features,
                self.to_residual.out_features,
                self.to_styles.out_features,
            )
        back = config.background
        self.background = (
            RigBackground(back.code, back.channels, back.resolution, back.radius)
            if back.kind == "sphere"
            else None
        )

    @property
    def device(self) -> torch.device:
        return self.generator.device

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    @dtype.setter
    def dtype(self, value: torch.dtype) -> None:
        self._dtype = value
        self.generator.dtype = bearable(self.config.generator, value)

    def predict(self, rgb: Tensor, cameras: Cameras) -> Prediction:
        """Predict what is in images [B, V, 3, H, W] in [0, 1] of B heads from cameras [B, V].

        V, H and W may be any.

        Raises ``ValueError`` for shapes that do not fit and no view at all, ``UserError`` for
        cameras that are impossible and images with numbers that are not finite.
        """
        _check(rgb, cameras)
        batch, views = rgb.shape[:2]
        rgb, cameras = (
            rgb.to(self.device, torch.float32),
            cameras.to(device=self.device, dtype=torch.float32),
        )
        with self._autocast():
            features = self.encoder(rgb.flatten(0, 1), cameras.reshape(batch * views))
            source = (
                features[-1].flatten(2).transpose(1, 2).unflatten(0, (batch, views)).flatten(1, 2)
            )
            lookup: Lookup | None = None
            views_at = self.lookup
            if views_at is not None:
                fine, extent = (
                    features[self.config.fine_level],
                    self.encoder.extent(*rgb.shape[-2:]),
                )

                def look_up(offset: Tensor) -> tuple[Tensor, Tensor]:
                    with torch.autocast(self.device.type, enabled=False):
                        return views_at(offset, rgb, fine, extent, cameras)

                lookup = look_up

            tokens, offset = self.transformer(source, lookup)
            residual, change = (
                self.to_residual(tokens).float(),
                self.to_styles(tokens.mean(1)).float(),
            )
            background = (
                self.background(self.background.code(rgb, cameras), cameras)
                if self.background
                else None
            )
        for _ in range(self.config.corrections):
            correction = self.correction
            assert correction is not None
            shown, alpha, moved = self._look(
                self._latent(residual, change), background, rgb, cameras
            )
            with self._autocast():
                tokens, more, styles = correction(tokens, rgb, shown, alpha, moved, cameras)
            residual, change = residual + more.float(), change + styles.float()
        return Prediction(self._latent(residual, change), offset, background)

    def _latent(self, residual: Tensor, change: Tensor) -> Latent:
        """[B, T, C] and [B, styles] -> styles and the residual of Z."""
        side = self.config.generator.latent_resolution
        ws = self.generator.mapping.w_avg.expand(len(change), self.generator.num_ws, -1)
        if self.config.styles:
            ws = ws + change.unflatten(1, ws.shape[1:])
        return Latent(ws=ws, residual=residual.transpose(1, 2).unflatten(2, (side, side)))

    @torch.no_grad()
    def _look(
        self, latent: Latent, background: Gaussians | None, rgb: Tensor, cameras: Cameras
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What a guess looks like in the views, and its tokens' offsets [B, T, 3].

        The views are [B, V, 3 and 1, H, W].
        """
        attributes, side = self.generator.attributes, self.config.generator.latent_resolution
        raw = self.generator.decode(
            latent.features(self.generator).to(self.generator.dtype), latent.ws
        )
        head = attributes.activate({name: value.float() for name, value in raw.items()})
        offset = attributes.offset_of_cells(head, side)[0].flatten(2).transpose(1, 2)
        whole = with_background(head, background)
        size = (rgb.shape[-1], rgb.shape[-2])
        out = render(
            whole, cameras, size, background=1.0, depth=False, features=whole.features is not None
        )
        return out.color, out.alpha if out.features is None else out.features, offset

    @torch.no_grad()
    def encode(self, rgb: Tensor, cameras: Cameras) -> Latent:
        """The latents [B] of heads seen in ``rgb`` [B, V, 3, H, W] from ``cameras`` [B, V].

        Errors as ``predict``.
        """
        return self.predict(rgb, cameras).latent

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def with_background(head: Gaussians, background: Gaussians | None) -> Gaussians:
    """Head [B, N] and rig [B, M] as one set.

    ``features[..., 0]`` is 1 on the head, before what the head had.

    The head alone, as it is, without a rig.
    """
    if background is None:
        return head
    own = (
        head.means.new_empty(*head.means.shape[:-1], 0) if head.features is None else head.features
    )
    features = torch.cat([torch.ones_like(head.means[..., :1]), own], -1)
    none = features.new_zeros(*background.means.shape[:-1], features.shape[-1])
    return Gaussians.merge([replace(head, features=features), replace(background, features=none)])


def _check(rgb: Tensor, cameras: Cameras) -> None:
    if rgb.ndim != 5 or rgb.shape[2] != 3:
        raise ValueError(
            "Images must have the shape [heads, views, 3, height, width], but these have "
            f"{list(rgb.shape)}."
        )
    if rgb.shape[1] == 0:
        raise ValueError("A reconstruction needs at least one view, but none was given.")
    if tuple(cameras.shape) != tuple(rgb.shape[:2]):
        raise ValueError(
            f"Every view needs a camera: the images are {list(rgb.shape[:2])} (heads, views), but"
            f" the cameras have the batch shape {list(cameras.shape)}."
        )
    if not bool(torch.isfinite(rgb).all()):
        head, view = (~torch.isfinite(rgb)).flatten(2).any(2).nonzero()[0].tolist()
        raise UserError(
            f"View {view} of head {head} contains numbers that are not finite; read the image"
            " again."
        )
    cameras.validate("The camera of view")
