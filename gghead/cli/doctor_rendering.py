"""The rasterizers in the eyes of ``gghead doctor``: each renders ten Gaussians."""

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gghead.cli.findings import BROKEN, MISSING, OK, Finding, install_compiler, pip, try_import
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import cache_dir

if TYPE_CHECKING:
    from torch import Tensor

_TOLERANCE = 2e-3  # of a color in [0, 1], between rasterizers


def rasterizers() -> Iterator[Finding]:
    """Every backend on every device: it renders ten Gaussians, and torch's image is the truth."""
    torch, fault = try_import("torch")
    rendering, other = try_import("gghead.rendering.registry") if torch else (None, fault)
    if torch is None or rendering is None:
        yield Finding(BROKEN, f"nothing was rendered: {other}")
        return
    truth, _ = draw("torch", "cpu")
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        for name in rendering.names():
            if device == "cuda" and name == "native":
                continue  # of the processor alone
            try:
                rendering.resolve(name, device)
            except UserError as error:
                yield _unusable(name, device, str(error))
                continue
            image, failure = draw(name, device)
            if image is None:
                yield Finding(BROKEN, f"{name} on {device}: {failure}", *_mend(name))
            elif truth is None:
                yield Finding(OK, f"{name} on {device}: renders; torch does not, to compare with")
            elif (name, device) == ("torch", "cpu"):
                yield Finding(OK, "torch on cpu: renders; the others are compared with it")
            else:
                worst = float((image - truth).abs().max())
                text = f"{name} on {device}: differs from torch by {worst:.1e} at most"
                fine = worst <= _TOLERANCE
                yield Finding(OK, text) if fine else Finding(BROKEN, text, *_mend(name))


def choice() -> Iterator[Finding]:
    """The rasterizer that commands take on this machine, and why."""
    rendering, fault = try_import("gghead.rendering.registry")
    if rendering is None:
        yield Finding(BROKEN, f"none: {fault}")
        return
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        yield Finding(OK, f"on {device}: {rendering.resolve('auto', device)}")
    except UserError as error:
        meaning = "Commands that render end with this sentence."
        yield Finding(BROKEN, str(error), meaning, f"unset {rendering.ENVIRONMENT_VARIABLE}")


def _unusable(name: str, device: str, reason: str) -> Finding:
    if name == "gsplat" and device == "cpu":
        return Finding(MISSING, "gsplat on cpu: it is for NVIDIA GPUs alone")
    return Finding(BROKEN, f"{name} on {device}: {reason}", *_mend(name))


def _mend(name: str) -> tuple[str, str]:
    """What it means that a backend fails, and the command that mends it."""
    if name == "native":
        folder = shlex.join(["rm", "-r", str(cache_dir("torch_extensions"))])
        build, _ = try_import("gghead.torch_utils.ops.native_build")
        no_tool = build is not None and build.find_compiler() is None
        remedy = install_compiler() if no_tool else folder
        return "torch renders instead, several times slower; build it anew.", remedy
    if name == "gsplat":
        return "torch renders instead, many times slower.", pip(
            "--force-reinstall", "--no-deps", "gsplat"
        )
    return "This torch does not work.", pip("--force-reinstall", "torch")


def draw(name: str, device: str) -> "tuple[Tensor | None, str]":
    """Render ten Gaussians with a backend.

    Returns ``(color [3, 32, 32] on the CPU, "")``, or ``(None, why)``.
    """
    import torch

    from gghead.cameras import Cameras
    from gghead.gaussians import Gaussians
    from gghead.rendering import render

    turn = torch.linspace(0, 6, 10)
    head = Gaussians(
        means=0.25 * torch.stack([turn.cos(), turn.sin(), (2 * turn).cos()], dim=-1),
        quats=torch.stack([torch.ones(10), turn.sin(), turn.cos(), turn / 6], dim=-1),
        scales=torch.stack([0.05 + turn / 60, 0.08 - turn / 200, torch.full((10,), 0.06)], dim=-1),
        opacities=0.3 + turn / 10,
        colors=0.5 + 0.5 * torch.stack([turn.sin(), turn.cos(), (3 * turn).sin()], dim=-1),
    )
    try:
        found = render(head.to(device), Cameras.orbit(0.3).to(device), 32, backend=name)
        image = found.color[0, 0].cpu()
    except Exception as error:  # whatever a driver, a library or a compiler throws is the finding
        return None, f"{type(error).__name__}: {error}"
    if found.backend != name:
        return None, f"it failed, and {found.backend} rendered instead"
    if not bool(image.isfinite().all()) or float(image.std()) < 0.01:
        return None, "the image is empty or holds numbers that are not finite"
    return image, ""
