"""What a generator is made of, as frozen dataclasses that survive JSON (``torch_utils.config``)."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from gghead.torch_utils.config import Option, Range


@dataclass(frozen=True)
class AttributeConfig:
    """How raw planes become Gaussians (GGHead, section 3; ``gghead.models.attributes``)."""

    position_range: float = 0.25
    """Largest offset from the template along each world axis, world units."""
    position_gain: float = 1.0
    """Factor of the network's output for offsets; GGHead has 1, less lets colors learn before
    shapes fold."""
    geometry_smoothing: int = 1
    """Positions, scales, rotations are averaged over so many plane pixels a side: neighbors move
    together."""
    scale_mode: Literal["texel", "absolute"] = "texel"
    """texel: multiples of the distance between neighboring Gaussians on the template; absolute:
    GGHead's log-scale."""
    scale_init: float = 0.85
    """Standard deviation at raw value zero, as a multiple of the texel spacing (mode texel)."""
    scale_min: float = 0.6
    """Smallest multiple: splats thinner than this let the background through between texels (mode
    texel)."""
    scale_max: float = 5.0
    """Largest multiple (mode texel)."""
    thickness: float = 0.5
    """Multiple of the mean texel spacing that stands for the spacing along the normal (mode texel,
    tangent frame)."""
    rotation: Literal["quaternion", "6d"] = "quaternion"
    """Parametrization of the rotation; raw zero is no rotation."""
    rotation_frame: Literal["tangent", "world", "surface"] = "tangent"
    """Rotations are relative to the texel's tangent frame (surface), to the world axes as in GGHead
    (world), or to the inverse of the tangent frame (tangent): what all networks before "surface"
    existed were trained with."""
    sh_degree: int = 0
    """0: plain RGB; 1: first-degree spherical harmonics (side views suffer: the authors' own
    remark)."""
    color_overshoot: float = 0.001
    """Colors reach this far beyond [0, 1], so that black and white are attainable (EG3D)."""
    opacity_init: float = 0.9
    """Opacity at raw value zero."""

    @property
    def channels(self) -> dict[str, int]:
        """Raw channels per attribute, in plane order."""
        return {
            "position": 3,
            "scale": 3,
            "rotation": 4 if self.rotation == "quaternion" else 6,
            "color": 3 * (self.sh_degree + 1) ** 2,
            "opacity": 1,
        }


# Splats that lie in the surface, and offsets that start small: shapes follow the silhouettes of
# all views instead of folding under one.
SURFACE = AttributeConfig(
    position_gain=0.25,
    scale_min=0.25,
    scale_max=3.0,
    thickness=0.3,
    rotation_frame="surface",
    opacity_init=0.95,
)


@dataclass(frozen=True)
class BackgroundConfig:
    """What stands behind the head."""

    kind: Literal["none", "gaussians", "cnn"] = "none"
    """none: a plain color given at render time; gaussians: a plane of them; cnn: an image from a
    small network."""
    resolution: int = 64
    """Gaussians per side of the plane, or pixels of the network's image before resizing."""
    depth: float = -1.0
    """World z of the plane (kind gaussians)."""
    half_width: float = 1.6
    """Half the side of the plane, world units (kind gaussians)."""
    cbase: int = 2048
    """Channel base of the background's own synthesis network."""
    cmax: int = 128
    """Largest number of channels of it."""


@dataclass(frozen=True)
class GeneratorConfig:
    """The generator: mapping, synthesis, decoder to UV planes, Gaussians on a template."""

    z_dim: int = 512
    """Size of the input noise."""
    w_dim: int = 512
    """Size of a style."""
    map_depth: Annotated[int, Range(1), Option()] = 2
    """Fully connected layers of the mapping network."""
    pose_cond: Annotated[bool, Option("--gen-pose-cond")] = False
    """Condition the mapping network on the camera label (generator pose conditioning of EG3D)."""
    template: Annotated[str, Option(metavar="NAME|OBJ")] = "head"
    """head, sphere, plane, or the path of an OBJ file with texture coordinates."""
    plane_resolution: int = 256
    """Side of the UV attribute planes."""
    latent_resolution: int = 64
    """Side of Z, where synthesis ends and the decoder begins."""
    cbase: Annotated[int, Range(1), Option()] = 32768
    """Channels at resolution r are min(cbase / r, cmax)."""
    cmax: Annotated[int, Range(1), Option()] = 512
    """Largest number of channels."""
    uv_maps: bool = False
    """Every block adds a learned map to its features, which the style then weighs: what is always
    in the same place of the UV square, such as an eye, need not be made by convolutions."""
    grid: int = 256
    """Gaussians per side of the UV square: about grid^2 Gaussians, whatever the plane
    resolution."""
    image_size: int = 256
    """Image side the model was trained for and renders by default."""
    attributes: AttributeConfig = field(default_factory=AttributeConfig)
    """Ranges and activations of the Gaussians' attributes."""
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    """What stands behind the head."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator (StyleGAN2 residual, camera-conditioned by projection)."""

    cbase: Annotated[int, Range(1), Option()] = 32768
    """Channels at resolution r are min(cbase / r, cmax)."""
    cmax: Annotated[int, Range(1), Option()] = 512
    """Largest number of channels."""
    map_depth: int = 8
    """Fully connected layers of the camera embedding."""
    cond: Annotated[bool, Option()] = True
    """Condition the discriminator on the camera label."""
    alpha: Annotated[bool, Option("--disc-alpha")] = False
    """The discriminator also looks at the alpha channel (a fourth input channel); needs masks."""
    mbstd_group: Annotated[int, Range(1), Option()] = 4
    """Group size of the minibatch standard deviation."""
