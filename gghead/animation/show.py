"""Images of avatars and heads that are driven: coefficients and cameras in, frames out."""

from collections.abc import Iterator

import torch
from torch import Tensor

from gghead.animation.animate import BLENDSHAPES, Motion, animate_gaussians
from gghead.animation.player import Player
from gghead.cameras import Cameras
from gghead.latent import Latent
from gghead.models.avatar import AvatarModel
from gghead.models.generator import Generator


def avatar_images(
    avatar: AvatarModel,
    expression: Tensor,
    cameras: Cameras,
    size: tuple[int, int] | None = None,
    *,
    # T times [3, H, W] in [0, 1]
    background: float = 1.0,
    clamp: bool = True,
) -> Iterator[Tensor]:
    """One image per row of ``expression`` [T, B] and camera (batch shape (T,))."""
    width, height = size or avatar.config.image_size
    player = Player(avatar)
    for index in range(len(expression)):
        yield player.draw(
            expression[index],
            cameras[index : index + 1],
            (width, height),
            background=background,
            clamp=clamp,
        )


@torch.no_grad()
def head_images(
    model: Generator,
    latent: Latent,
    table: Tensor,
    cameras: Cameras,
    size: int | None = None,
    *,
    motion: Motion = BLENDSHAPES,
) -> Iterator[Tensor]:  # T times [3, H, W] in [0, 1]
    """One image of a head per row of ``table`` [T, K] and camera.

    The columns are in the order of ``sliders(model, motion)``.
    """
    head = latent.gaussians(model) if motion == BLENDSHAPES else latent
    background = model.background_image(latent.ws, size or model.config.image_size)
    for index in range(len(table)):
        gaussians = animate_gaussians(head, table[index : index + 1], model, motion)
        camera = cameras[index : index + 1].to(model.device, torch.float32)
        yield (
            model.render(gaussians, camera, size, background=background, depth=False)
            .color[0, 0]
            .clamp(0, 1)
        )


def camera_path(avatar: AvatarModel, name: str, frames: int, pitch: float = 0.0) -> Cameras:
    """A path of batch shape (frames,) with the lens and the distance of the avatar's middle camera.

    ``name``: still (the middle camera itself), turntable, sweep or spiral.
    """
    return path_around(avatar.camera(), name, frames, pitch)


def path_around(middle: Cameras, name: str, frames: int, pitch: float = 0.0) -> Cameras:
    """The same around any one camera (batch shape () or (1,))."""
    if name == "still":
        return Cameras(
            middle.cam2world.expand(frames, 4, 4), middle.intrinsics.expand(frames, 3, 3)
        )
    options = {} if name == "spiral" else {"pitch": pitch}
    path = getattr(Cameras, name)(frames, radius=float(middle.position.norm()), **options).to(
        middle.cam2world.device
    )
    return Cameras(path.cam2world, middle.intrinsics.expand(frames, 3, 3))
