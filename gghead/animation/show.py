"""An avatar's pictures: coefficients and cameras in, frames out."""

from collections.abc import Iterator

from torch import Tensor

from gghead.animation.player import Player
from gghead.cameras import Cameras
from gghead.models.avatar import AvatarModel


def pictures(avatar: AvatarModel, expression: Tensor, cameras: Cameras, size: tuple[int, int] | None = None, *,
             background: float = 1.0, clamp: bool = True) -> Iterator[Tensor]:  # T times [3, H, W] in [0, 1]
    """One picture per row of ``expression`` [T, B] and camera (batch shape (T,)), one after the other."""
    size, player = size or tuple(avatar.config.image_size), Player(avatar)
    for index in range(len(expression)):
        yield player.draw(expression[index], cameras[index : index + 1], size, background=background, clamp=clamp)


def camera_path(avatar: AvatarModel, name: str, frames: int, pitch: float = 0.0) -> Cameras:
    """A path of batch shape (frames,) with the lens and the distance of the avatar's middle camera.

    ``name``: still (the middle camera itself), turntable, sweep or spiral.
    """
    middle = avatar.camera()
    if name == "still":
        return Cameras(middle.cam2world.expand(frames, 4, 4), middle.intrinsics.expand(frames, 3, 3))
    options = {} if name == "spiral" else {"pitch": pitch}
    path = getattr(Cameras, name)(frames, radius=float(middle.position.norm()), **options).to(avatar.device)
    return Cameras(path.cam2world, middle.intrinsics.expand(frames, 3, 3))
