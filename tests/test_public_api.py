"""What `import gghead` gives, and the calls that stand for whole commands."""

import ast
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.places import ROOT
from helpers.small_network import small_network
from helpers.small_reconstructor import small_reconstructor
from PIL import Image

import gghead
from gghead import training
from gghead.inversion.stages import InversionConfig
from gghead.inversion.targets import open_targets

NOUNS = ("Cameras", "Gaussians", "Latent", "Generator", "Reconstructor", "Avatar", "Template")
VERBS = (
    "load",
    "save",
    "render",
    "rasterization",
    "animate",
    "invert",
    "reconstruct",
    "load_template",
)
ROOMS = (
    "rendering",
    "template",
    "models",
    "data",
    "inversion",
    "reconstruction",
    "editing",
    "animation",
    "perceptual",
    "cameras",
    "latent",
    "sampling",
    "video",
    "training",
)
FAST = InversionConfig(steps=(4, 3, 3, 3), candidates=4)


def type_checking_names(path: Path) -> set[str]:
    """The names that a type checker is told of."""
    (block,) = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.If))
    return {
        alias.asname or alias.name
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("module", [gghead, training], ids=lambda module: module.__name__)
def test_what_a_package_gives_is_the_same_for_users_completion_and_type_checkers(module):
    assert set(module.__all__) == type_checking_names(Path(module.__file__))
    assert set(module.__all__) <= set(dir(module))
    assert all(getattr(module, name) is not None for name in module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'hat'"):
        _ = module.hat


def test_nouns_verbs_and_packages_are_there():
    assert set(NOUNS + VERBS + ROOMS) <= set(gghead.__all__)
    assert all(isinstance(getattr(gghead, name), type) for name in NOUNS)
    assert all(callable(getattr(gghead, name)) for name in VERBS)
    for room in ROOMS:
        assert getattr(gghead, room) is importlib.import_module(f"gghead.{room}")


def test_packages_that_the_documentation_names_exist():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {
        name for page in pages for name in re.findall(r"\bgghead\.(\w+)", page.read_text("utf-8"))
    }
    here = set(dir(gghead)) | {path.stem for path in (ROOT / "gghead").iterdir()}
    assert named
    assert named <= here, "a page names what `gghead` does not have"


# ----------------------------------------------------------------------------------- inverting
def drawn_image(model, seed: int = 1) -> tuple[torch.Tensor, gghead.Cameras]:
    """RGBA [4, S, S] in [0, 1] of one of the network's own heads, and its camera."""
    camera = gghead.Cameras.orbit(0.2)
    out = model.render(model.sample(seed), camera)
    return torch.cat([out.color, out.alpha], 2)[0, 0].clamp(0, 1), camera


def test_an_image_is_inverted_by_one_call():
    model, metrics = small_network(), []
    image, camera = drawn_image(model)
    latent = gghead.invert(
        image,
        model,
        method="z",
        camera=camera,
        config=FAST,
        on_stage=lambda result: metrics.append(result.metrics[0]),
    )
    assert isinstance(latent, gghead.Latent) and len(latent) == 1
    assert latent.residual is not None and latent.camera.shape == (1, 25)
    assert latent.info["stage"] == "z" and latent.info["metrics"] == metrics[-1]
    assert [numbers["loss"] for numbers in metrics] == sorted(
        (numbers["loss"] for numbers in metrics), reverse=True
    )
    assert latent.gaussians(model).num == model.sample(0).num


def test_a_file_an_array_and_a_pillow_image_give_the_same_latent(tmp_path):
    model = small_network()
    image, camera = drawn_image(model)
    pixels = (image * 255).round().byte().movedim(0, -1).numpy()
    Image.fromarray(pixels).save(tmp_path / "head.png")

    def inverted(target):
        return gghead.invert(target, model, method="w", camera=camera, config=FAST).ws

    wanted = inverted(tmp_path / "head.png")
    # the name of a file seeds its search, so it is compared with what the command would read
    assert len(open_targets(tmp_path / "head.png", model.config.image_size, "frontal")) == 1
    assert torch.equal(inverted(pixels), inverted(Image.fromarray(pixels)))
    assert torch.equal(inverted(pixels), inverted(image))
    assert wanted.shape == inverted(pixels).shape


def test_an_encoder_is_the_start_where_the_model_has_one():
    model = small_reconstructor()
    image, camera = drawn_image(model.generator)
    stages = []
    gghead.invert(
        image,
        model,
        method="w+",
        camera=camera,
        config=FAST,
        on_stage=lambda result: stages.append(result.stage),
    )
    assert stages == ["encoder", "w+"]


@pytest.mark.parametrize(
    "change,error,words",
    [
        ({"image": np.zeros((8, 6, 3), np.uint8)}, ValueError, "square"),
        ({"image": np.zeros((8, 8), np.uint8)}, ValueError, "in color"),
        ({"image": np.zeros((8, 8, 3), np.int64)}, TypeError, "uint8 or floats"),
        ({"image": np.full((8, 8, 3), 7.0)}, ValueError, r"in \[0, 1\]"),
        ({"image": 3}, TypeError, "not int"),
        ({"image": np.zeros((8, 8, 4), np.uint8)}, ValueError, "mask is empty"),
        ({"mask": np.ones((7, 8), bool)}, ValueError, "one size"),
        ({"camera": "auto"}, ValueError, "for pixels give Cameras"),
        ({"camera": gghead.Cameras.turntable(2)}, ValueError, "One image has one camera"),
        ({"method": "encoder"}, ValueError, "needs a network with an encoder"),
        ({"method": "ws"}, ValueError, "no inversion method 'ws'"),
        ({"model": torch.nn.Identity()}, TypeError, "not Identity"),
        ({"image": "absent.png"}, FileNotFoundError, "absent.png"),
    ],
)
def test_what_cannot_be_inverted_is_refused_in_words_of_python(change, error, words):
    given = {"image": np.zeros((8, 8, 3), np.uint8), "model": small_network(), **change}
    with pytest.raises(error, match=words) as refused:
        gghead.invert(given.pop("image"), given.pop("model"), config=FAST, **given)
    assert "--" not in str(refused.value)


# ------------------------------------------------------------------------------ reconstructing
def views_of(model, count: int = 3) -> tuple[torch.Tensor, gghead.Cameras]:
    cameras = gghead.Cameras.orbit(torch.linspace(-0.5, 0.5, count))
    out = model.render(model.sample(2), cameras)
    return torch.cat([out.color, out.alpha], 2)[0].clamp(0, 1), cameras


def test_views_are_reconstructed_by_one_call():
    model = small_reconstructor()
    images, cameras = views_of(model.generator)
    latent = gghead.reconstruct(images, cameras, model)
    assert isinstance(latent, gghead.Latent) and len(latent) == 1
    assert latent.info == {"target": "head", "stage": "encoder", "views": ["00", "01", "02"]}
    assert torch.equal(latent.camera[0], cameras.label()[1]), "the most frontal camera"
    as_list = [(image * 255).round().byte().movedim(0, -1).numpy() for image in images]
    assert torch.equal(gghead.reconstruct(as_list, cameras, model).ws, latent.ws)


def test_a_reconstruction_that_is_refined_fits_its_views_no_worse():
    model, losses = small_reconstructor(), []
    images, cameras = views_of(model.generator)
    latent = gghead.reconstruct(
        images, cameras, model, refine_steps=5, on_step=lambda _, loss: losses.append(loss)
    )
    assert len(losses) == 6 and min(losses) <= losses[0]
    assert latent.info["stage"] == "refined"


@pytest.mark.parametrize(
    "change,error,words",
    [
        ({"images": []}, ValueError, "no views"),
        ({"cameras": None}, TypeError, "needs its camera"),
        ({"cameras": gghead.Cameras.turntable(2)}, ValueError, "every view needs its camera"),
        ({"model": small_network()}, TypeError, "not Generator"),
        (
            {"images": [np.zeros((8, 8, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)]},
            ValueError,
            "one size",
        ),
    ],
)
def test_views_that_do_not_fit_are_refused_in_words_of_python(change, error, words):
    model = small_reconstructor()
    images, cameras = views_of(model.generator)
    given = {"images": images, "cameras": cameras, "model": model, **change}
    with pytest.raises(error, match=words) as refused:
        gghead.reconstruct(given["images"], given["cameras"], given["model"])
    assert "--" not in str(refused.value)
