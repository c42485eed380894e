"""A wrong call is a ``ValueError`` of Python; ``UserError`` is for files and options."""

from dataclasses import replace

import pytest
import torch
from helpers.example_gaussians import make
from safetensors.torch import save_file

from gghead import Cameras, Gaussians, render
from gghead import latent as latent_files
from gghead.image_metrics import psnr
from gghead.networks.mapping import MappingNetwork
from gghead.perceptual import load_distance
from gghead.torch_utils.checks import check_shape
from gghead.torch_utils.errors import UserError
from gghead.video import save_video

HEAD = make((), 5)
CALLS = {
    "a shape": lambda: check_shape("x", torch.zeros(2, 3), (None, 4)),
    "a field of Gaussians": lambda: replace(HEAD, quats=HEAD.quats[:4]),
    "heads of different sizes": lambda: Gaussians.stack([HEAD, make((), 6)]),
    "a camera's label": lambda: Cameras.from_label(torch.zeros(24)),
    "an angle in degrees": lambda: Cameras.orbit(30),
    "a head without features": lambda: render(HEAD, Cameras.orbit(0.0), 8, features=True),
    "an image without pixels": lambda: render(HEAD, Cameras.orbit(0.0), 0),
    "styles": lambda: MappingNetwork(4, 0, 4, 2)(torch.zeros(1, 5)),
    "images of two sizes": lambda: psnr(torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)),
    "images of a distance": lambda: load_distance("gradient")(torch.zeros(1), torch.zeros(1)),
    "frames of a video": lambda: save_video([torch.zeros(4, 4, 3).numpy()], "x.webp", 30),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_wrong_call_is_a_plain_value_error(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as found:
        call()
    assert found.type is ValueError


def test_a_file_of_another_shape_is_a_mistake_of_the_user(tmp_path):
    path = tmp_path / "latent.safetensors"
    save_file({"ws": torch.zeros(8)}, path, metadata={"format": latent_files.FORMAT})
    with pytest.raises(UserError, match=r"ws in .* must have shape \[\.\.\., 1, \*, \*\]"):
        latent_files.load(path)
