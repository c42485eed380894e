"""What a prior over latents is made of."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DiTConfig:
    """A diffusion transformer; see ``gghead.networks.dit``."""

    width: int = 128
    """Channels of a token."""
    depth: int = 4
    """Blocks."""
    heads: int = 4
    """Attention heads; they divide the width."""
    mlp_ratio: int = 4
    """Width of the perceptrons, in multiples of ``width``."""


@dataclass(frozen=True)
class TokenShape:
    """How a latent is cut into tokens; see ``gghead.models.latent_tokens``."""

    num_ws: int
    """Styles of a latent."""
    w_dim: int
    """Length of a style."""
    rows: int
    """Styles that are tokens: all of them, or 1 where all styles of every latent are the same."""
    w_components: int
    """Principal components kept of a style."""
    channels: int = 0
    """Channels of the residual on Z; 0: there is none."""
    side: int = 0
    """Its side."""
    z_components: int = 0
    """Principal components kept of its channels."""
    patch: int = 1
    """Side of the squares it is cut into."""
    components: int = 0
    """Principal components of whole heads, which are one token; 0: styles and patches of the
    residual apart."""

    @property
    def numbers(self) -> int:
        """Numbers in a latent."""
        return self.num_ws * self.w_dim + self.channels * self.side**2

    @property
    def patches(self) -> int:
        """Tokens of the residual."""
        return (self.side // self.patch) ** 2 if self.channels and not self.components else 0

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers in a head's style tokens and in its residual tokens.

        Of whole heads all are in the first.
        """
        if self.components:
            return self.components, 0
        return self.rows * self.w_components, (
            self.z_components * self.side**2 if self.channels else 0
        )


@dataclass(frozen=True)
class PriorConfig:
    """A flow-matching prior over the latents of one generator."""

    tokens: TokenShape
    """What it draws."""
    dit: DiTConfig = field(default_factory=DiTConfig)
    """Its network."""
    cond_dim: int = 0
    """Length of the condition vector; 0: unconditional."""
    network: str = ""
    """The generator's name, for messages."""
    fingerprint: str = ""
    """Hash of the generator's weights (``gghead.latent.fingerprints``)."""
