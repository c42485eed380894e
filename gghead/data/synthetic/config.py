"""What a synthetic data set shows; a module without torch, for what commands declare."""

from dataclasses import dataclass
from typing import Annotated, Literal

from gghead.torch_utils.config import Option, Range
from gghead.torch_utils.errors import UserError


@dataclass(frozen=True)
class Request:
    """A synthetic data set.

    Image i shows camera ``i % views`` of expression ``i // views % expressions`` of subject ``i //
    (views * expressions)``. Raises ``UserError`` for other cameras and for numbers below 1.
    """

    num: Annotated[int, Range(1), Option()] = 2000
    """Number of images."""
    resolution: Annotated[int, Range(8, 1024), Option(form="resolution")] = 64
    """Side of the images, pixels."""
    seed: Annotated[int, Range(0), Option()] = 0
    """Everything random derives from it; another seed, other people."""
    cameras: Annotated[Literal["ffhq", "full"], Option()] = "ffhq"
    """ffhq: in front of the face, as in portrait photos; full: all the way round."""
    views: Annotated[int, Range(1), Option()] = 1
    """Cameras per expression."""
    expressions: Annotated[int, Range(1), Option()] = 1
    """Expressions per subject."""

    def __post_init__(self) -> None:
        if self.cameras not in ("ffhq", "full"):
            raise UserError(f"cameras must be 'ffhq' or 'full', but it is '{self.cameras}'.")
        if min(self.num, self.resolution, self.views, self.expressions) < 1:
            raise UserError("num, resolution, views and expressions must be at least 1.")
