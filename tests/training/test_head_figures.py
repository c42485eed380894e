"""Figures of heads on heads and images whose eyes, holes and backs are known."""

import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.painted_head import painted_head
from helpers.small_network import small_network
from PIL import Image

from gghead import checkpoints, rendering
from gghead.cameras import Cameras
from gghead.cli.main import score as command
from gghead.data import ImageDataset
from gghead.models.config import BackgroundConfig
from gghead.template import load_template
from gghead.torch_utils.errors import UserError
from gghead.training.metrics import heads
from gghead.training.metrics.head_figures import (
    eye_figures,
    hollow_back,
    see_through,
    skull_mask,
    white_back,
)

SKIN, EYE_WHITE, IRIS = 150.0, 220.0, 60.0


def painted_face(camera, size=128, iris=(IRIS, IRIS), shift=(0.0, 0.0)):
    """An image [3, S, S] of skin with two eyes on the plane through the template's pupils, moved
    outwards and up by ``shift``; ``iris``: levels of the left and the right one."""
    x, y, z = load_template("head").landmarks["pupilLeft"]
    pixels = (torch.arange(size) + 0.5) / size
    v, u = torch.meshgrid(pixels, pixels, indexing="ij")
    rays = torch.stack([u, v, torch.ones_like(u)], -1) @ camera.intrinsics[0].inverse().mT
    rays = rays @ camera.cam2world[0, :3, :3].mT
    origin = camera.position[0]
    points = origin + rays * ((z - origin[2]) / rays[..., 2])[..., None]
    image = torch.full((size, size), SKIN)
    for side, level in zip((1, -1), iris, strict=True):
        away = torch.hypot(
            points[..., 0] - side * (x + shift[0]), 1.6 * (points[..., 1] - y - shift[1])
        )
        image = torch.where(away < 0.038, torch.tensor(EYE_WHITE), image)
        round_ = torch.hypot(points[..., 0] - side * (x + shift[0]), points[..., 1] - y - shift[1])
        image = torch.where(round_ < 0.0155, torch.tensor(level), image)
    return image.expand(3, size, size)


@pytest.fixture(scope="module")
def head():
    """The painted head, opaque and with short outlines."""
    head = painted_head(96)
    head.opacities[:] = 0.999
    return head


def measured(gaussians, size=128, views=8):
    return heads.head_record(lambda cameras: rendering.render(gaussians, cameras, size), views)


# --------------------------------------------------------------------------------------------------
# Eyes


@pytest.mark.parametrize("yaw", [0.0, 0.2])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.02, -0.02)])
def test_a_pair_of_eyes_is_found_and_measured(yaw, shift):
    camera = Cameras.orbit(yaw, 0.1 * yaw)
    found = eye_figures(painted_face(camera, 256, shift=shift)[None], camera)
    assert float(found.iris) == pytest.approx(EYE_WHITE - IRIS, abs=8)
    assert float(found.weaker_iris) == pytest.approx(EYE_WHITE - IRIS, abs=8)
    assert float(found.difference) < 5


def test_eyes_that_mirror_each_other_do_not_differ():
    camera = Cameras.orbit(0.0)
    assert float(eye_figures(painted_face(camera)[None], camera).difference) < 0.01


def test_one_pale_iris_makes_the_weaker_eye_and_the_difference():
    camera = Cameras.orbit(0.0)
    images = torch.stack([painted_face(camera), painted_face(camera, iris=(IRIS, EYE_WHITE - 20))])
    found = eye_figures(images, Cameras.orbit(torch.zeros(2)))
    assert found.weaker_iris[1] < 25 < 100 < found.weaker_iris[0]
    assert found.iris[1] == pytest.approx((EYE_WHITE - IRIS + 20) / 2, abs=8)
    assert found.difference[1] > 20 + found.difference[0]


def test_a_stripe_is_no_eye_and_skin_has_none():
    camera, size = Cameras.orbit(0.0), 128
    image = painted_face(camera, size)
    striped = image.clone()
    striped[:, :, size // 2 :] = SKIN
    # the left half of the face has an edge from dark to white instead of an eye
    column = int(size * (0.5 + 4.2647 * 0.084 / 2.5))
    striped[:, 40:60, column - 6 : column] = IRIS
    striped[:, 40:60, column : column + 6] = EYE_WHITE
    images = torch.stack([image, striped, torch.full_like(image, SKIN)])
    found = eye_figures(images, Cameras.orbit(torch.zeros(3)))
    assert found.weaker_iris[1] < 0.5 * found.weaker_iris[0]
    assert found.difference[1] > 20
    assert abs(float(found.iris[2])) < 0.01 and float(found.difference[2]) < 0.01


# --------------------------------------------------------------------------------------------------
# Holes and backs


def test_a_closed_painted_head_has_two_eyes_and_no_hole(head):
    record = measured(head)
    assert record["weaker_iris"] > 20 and record["eye_difference"] < 1
    assert record["see_through"] < 0.5
    assert record["white_back"] == 0 and record["hollow_back"] < 1


def test_a_hole_through_the_head_is_found(head):
    x, y, z = head.means[0].unbind(-1)
    through = measured(head.select(torch.hypot(y - 0.1, z) > 0.06))
    assert through["see_through"] > measured(head)["see_through"] + 0.5
    assert measured(head.select(torch.hypot(y - 0.1, z) > 0.09))["see_through"] > (
        through["see_through"] + 0.2
    )


def test_a_back_that_nobody_painted_is_white(head):
    painted = head.map(torch.clone)
    painted.colors[0, head.means[0, :, 2] < -0.05] = 0.95
    record = measured(painted)
    assert record["white_back"] > 90 and record["hollow_back"] < 1
    assert record["iris"] == pytest.approx(measured(head)["iris"], abs=0.5)


def test_a_head_without_a_back_shows_the_inside_of_its_face(head):
    record = measured(head.select(head.means[0, :, 2] > -0.02))
    assert record["hollow_back"] > 70
    assert measured(head)["hollow_back"] < 1


def test_what_is_see_through_is_counted_inside_the_outline():
    alpha = torch.zeros(3, 64, 64)
    alpha[:, 10:50, 10:64] = 1  # cut off at the right, where no outline is taken off
    alpha[0, 10:12, 10:64] = 0.6  # soft outlines do not count
    alpha[1, 20:24, 20:25] = 0.3
    alpha[2, 30:34, 30:34] = 0.9
    missing, inside = see_through(alpha)
    assert missing.tolist() == [0, 20, 16]
    assert inside.tolist() == [36 * 52] * 3  # two pixels are outline
    assert [int(found) for found in see_through(torch.zeros(1, 64, 64))] == [0, 0]


def test_the_skull_is_seen_whole_from_behind_and_above_the_face_in_front():
    behind, front = (skull_mask(Cameras.orbit(yaw), 64) for yaw in (math.pi, 0.0))
    assert behind.sum() > 1.5 * front.sum() > 0
    assert not front[32:].any() and behind[32].any()


def test_images_without_a_skull_have_no_back():
    away = Cameras.orbit(math.pi, target=(0.0, 5.0, 0.0))
    assert white_back(torch.zeros(3, 32, 32), away) is None
    assert hollow_back(torch.zeros(32, 32), away) is None


def test_where_nothing_is_drawn_everything_is_see_through(head):
    faint = head.map(torch.clone)
    faint.opacities[:] = 0.001
    record = measured(faint, views=2)
    assert record["see_through"] == 100 and record["white_back"] == 100


# --------------------------------------------------------------------------------------------------
# Networks and data


@pytest.fixture(scope="module")
def folder(tmp_path_factory, head):
    """Images from the front, the side and behind, all with masks."""
    folder = tmp_path_factory.mktemp("data")
    cameras = Cameras.orbit(torch.tensor([0.0, math.pi / 2, math.pi - 0.2]))
    out = rendering.render(head, cameras, 128, background=0.0)
    labels = []
    for index, camera in enumerate(cameras.label()):
        name = f"{index}.png"
        image = torch.cat([out.color[0, index], out.alpha[0, index]])
        image[:3] /= image[3:].clamp_min(1e-3)
        rgba = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(rgba)).save(folder / name)
        labels.append([name, camera.tolist()])
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


def test_an_image_is_measured_for_what_it_shows(folder, head):
    front, side, behind = heads.score_images(ImageDataset(folder))
    assert set(front) == {"image", "iris", "weaker_iris", "eye_difference", "see_through"}
    assert set(side) == {"image", "see_through"}
    assert set(behind) == {"image", "see_through", "white_back"}
    # as good as the same head's own figures
    assert front["iris"] == pytest.approx(measured(head)["iris"], abs=1)
    assert behind["white_back"] < 5 and max(r["see_through"] for r in (front, side, behind)) < 0.5
    assert [row["image"] for row in heads.score_images(ImageDataset(folder, masks=None))] == [
        "0.png",
        "2.png",
    ]


def test_the_worst_of_a_figure_is_its_lowest_where_more_is_better():
    rows = heads.summary(
        [{"iris": 10.0, "white_back": 1.0}, {"iris": 30.0}, {"iris": 50.0, "white_back": 4.0}]
    )
    assert rows["iris"] == {"count": 3, "median": 30, "mean": 30, "worst": 10}
    assert rows["white_back"]["worst"] == 4 and rows["white_back"]["count"] == 2
    text = heads.table({"a": rows, "b": {}})
    assert "30.0" in text and len(text.splitlines()) == 2 + len(heads.FIGURES)


def test_heads_before_a_plane_are_measured_without_it():
    model = small_network(
        template="head",
        background=BackgroundConfig(kind="gaussians", resolution=8, cbase=64, cmax=8),
    )
    records = heads.score_seeds(model, [0, 1], size=32, views=2)
    assert [record["seed"] for record in records] == [0, 1]
    assert set(records[0]) == {"seed", *heads.FIGURES}
    head = model.sample(0)
    kept = head.select(head.features[0, :, 0] > 0)
    alone = heads.head_record(lambda cameras: rendering.render(kept, cameras, 32, eps2d=0.3), 2)
    assert alone["hollow_back"] == pytest.approx(records[0]["hollow_back"], abs=5)
    with pytest.raises(UserError, match="template is a sphere"):
        heads.score_seeds(small_network(), [0])


def test_the_command_prints_a_table_and_writes_every_head(folder, tmp_path):
    network, path = tmp_path / "heads.safetensors", tmp_path / "heads.json"
    checkpoints.save(small_network(template="head"), network)
    options = [f"--network={network}", "--seeds=0,3", "--size=48", "--views=2", "--device=cpu"]
    result = CliRunner().invoke(command, ["heads", *options, f"--data={folder}", f"--json={path}"])
    assert result.exit_code == 0, result.output
    assert "2 heads of heads at 48 pixels, psi 1; 3 images of" in result.output
    assert all(title in result.output for title in heads.FIGURES.values())
    report = json.loads(path.read_text())
    assert [record["seed"] for record in report["records"]["heads"]] == [0, 3]
    assert report["data_size"] == 48 and report["summary"]["heads"]["iris"]["count"] == 2
    missing = CliRunner().invoke(command, ["heads", *options, "--data=nowhere.zip"])
    assert missing.exit_code == 1 and "nowhere.zip" in missing.output
