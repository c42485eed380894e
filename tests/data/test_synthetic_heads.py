"""Synthetic people: images agree with their cameras and the template, and depend on nothing but
the seed."""

import dataclasses
import subprocess
import sys

import click.testing
import numpy as np
import pytest
import torch
from helpers.places import ROOT

from gghead.cameras import Cameras
from gghead.cli.dataset_tool import main as dataset_tool
from gghead.data.dataset import ImageDataset
from gghead.data.synthetic import hair, statistics
from gghead.data.synthetic.eyes import IRIS_RADIUS, RADIUS, gaze_direction
from gghead.data.synthetic.figure import load_assets, pose
from gghead.data.synthetic.identity import MODES, basis, sample_coefficients
from gghead.data.synthetic.noise import display, power, ring
from gghead.data.synthetic.person import HAIR_STYLES, sample_expression, sample_light, sample_person
from gghead.data.synthetic.render import draw_figure, render
from gghead.data.synthetic.scenes import Request, draw, sample_label, scenes
from gghead.template import load_template
from gghead.template.texels import texel_maps
from gghead.torch_utils.errors import UserError

RECIPE = ROOT / "datasets" / "synthetic_heads.py"


def front(yaw=0.0):
    return Cameras.orbit(yaw).label()[0].double().numpy()


def person(seed=0, **changes):
    return dataclasses.replace(sample_person(np.random.RandomState(seed)), **changes)


def light(seed=0):
    return sample_light(np.random.RandomState(seed))


def run_recipe(*arguments):
    return click.testing.CliRunner().invoke(dataset_tool, ["synthetic", *arguments])


# ------------------------------------------------------------------------------------------- people
def test_identity_modes_are_mirror_symmetric_but_the_lopsided_ones():
    points = np.random.RandomState(0).uniform(-0.3, 0.3, (40, 3))
    flip = np.array([-1.0, 1.0, 1.0])
    difference = np.abs(basis(points * flip) - basis(points) * flip).max((1, 2))
    for mode, value in zip(MODES, difference, strict=True):
        assert (value > 1e-6) == mode.name.startswith("lopsided"), mode.name


def test_identity_moves_the_face_by_millimeters_and_never_folds_it():
    template = load_template("head")
    modes = basis(template.vertices)
    corners = template.vertices[template.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    for seed in range(6):
        random = np.random.RandomState(seed)
        offset = np.einsum("k,kvc->vc", sample_coefficients(random, random.uniform(-1, 1)), modes)
        assert 0.005 < np.sqrt((offset**2).sum(1)).mean() < 0.08
        moved = (template.vertices + offset)[template.faces]
        turned = (np.cross(moved[:, 1] - moved[:, 0], moved[:, 2] - moved[:, 0]) * normal).sum(
            1
        ) < 0
        assert turned.mean() < 0.01


def test_expressions_use_names_of_the_template():
    known = set(load_template("head").blendshapes)
    drawn = [sample_expression(np.random.RandomState(seed)) for seed in range(200)]
    assert set().union(*drawn) <= known
    assert all(0 <= value <= 1 for weights in drawn for value in weights.values())
    assert (
        len(
            {
                tuple(sorted(name for name, value in weights.items() if value > 0.2))
                for weights in drawn
            }
        )
        > 8
    )


def test_shell_coordinates_find_the_shells_own_points():
    shell = hair.build_shell(load_template("head").vertices)
    points = shell.origins + shell.hanging[:, None] * shell.directions
    s, phi = hair.coordinates(points)
    np.testing.assert_allclose(s, shell.s, atol=1e-9)
    np.testing.assert_allclose(np.exp(1j * phi), np.exp(1j * shell.phi), atol=1e-9)


# ----------------------------------------------------------------------------------------- images
def test_depth_uv_and_camera_agree_with_the_template():
    plain = person(shape=np.zeros(len(MODES)), hair_style="bald", beard="none", glasses="none")
    label = front(0.4)
    image = render(plain, {}, light(), label, 48)
    row, column = np.nonzero(image.uv[..., 0] >= 0)
    assert len(row) > 700
    pose, k = label[:16].reshape(4, 4), label[16:].reshape(3, 3)
    ray = (
        np.stack([(column + 0.5) / 48, (row + 0.5) / 48, np.ones(len(row))], -1)
        @ np.linalg.inv(k).T
    )
    world = ray * image.depth[row, column][:, None] @ pose[:3, :3].T + pose[:3, 3]
    maps = texel_maps(load_template("head"), 256)
    u, v = (np.clip((image.uv[row, column] * 256).astype(int), 0, 255)).T
    surface = maps.position.numpy()[:, v, u].T
    distance = np.sqrt(((world - surface) ** 2).sum(1))
    assert np.median(distance) < 0.003 and np.quantile(distance, 0.99) < 0.012


def test_alpha_is_antialiased_and_colors_are_not_multiplied_by_it():
    image = render(person(hair_style="bald", glasses="none"), {}, light(), front(), 64)
    assert image.rgb.dtype == image.alpha.dtype == np.uint8 and image.rgb.shape == (64, 64, 3)
    assert (
        image.alpha[32, 32] == 255 and image.alpha[20, 0] == 0 and (image.rgb[20, 0] == 255).all()
    )
    partial = (image.alpha > 0) & (image.alpha < 255)
    assert 30 < partial.sum() < 400
    skin = np.median(image.rgb[image.alpha == 255], axis=0)
    edge = np.median(image.rgb[(image.alpha > 20) & (image.alpha < 130)], axis=0)
    assert np.abs(edge - skin).max() < 80  # neither blackened nor whitened by what lies behind


@pytest.mark.parametrize("style", HAIR_STYLES)
def test_every_haircut_can_be_drawn_from_all_sides(style):
    areas = []
    for yaw in (0.0, 2.0):
        image = render(person(3, hair_style=style, hair_length=-0.35), {}, light(), front(yaw), 24)
        areas.append((image.alpha > 127).mean())
        bald = render(person(3, hair_style="bald"), {}, light(), front(yaw), 24)
        changed = np.abs(image.rgb.astype(int) - bald.rgb).max(-1) > 20
        assert changed.mean() > 0.02 or style == "bald" or (style == "horseshoe" and yaw == 0.0)
    assert all(0.3 < area < 0.98 for area in areas)


@pytest.mark.parametrize(
    "change",
    [{"beard": "full"}, {"glasses": "square"}, {"collar": -0.2}, {"skin": np.full(3, 0.5)}],
)
def test_attributes_show(change):
    plain = {
        "hair_style": "bald",
        "beard": "none",
        "glasses": "none",
        "collar": -0.32,
        "skin": np.full(3, 0.2),
    }
    before = render(person(1, **plain), {}, light(), front(), 32)
    after = render(person(1, **{**plain, **change}), {}, light(), front(), 32)
    assert (np.abs(after.rgb.astype(int) - before.rgb).max(-1) > 15).mean() > 0.02


def test_one_sees_the_lining_of_a_collar_and_not_through_it():
    loose = person(4, hair_style="bald", beard="none", glasses="none", collar=-0.26, neckline=0.14)
    for yaw in (0.3, 1.3, 2.8):
        alpha = render(loose, {}, light(), front(yaw), 48).alpha
        low = alpha[30:]  # from the mouth down
        for row in low:
            seen = np.nonzero(row)[0]
            assert (row[seen[0] : seen[-1] + 1] > 0).all(), f"a hole at yaw {yaw}"


def test_expression_moves_the_mouth_only_in_the_mouths_half():
    base = person(1, hair_style="bald", beard="none")
    calm, talking = (
        render(base, {"jawOpen": value}, light(), front(), 48).rgb.astype(int)
        for value in (0.0, 0.8)
    )
    changed = np.abs(calm - talking).max(-1) > 15
    assert changed[26:].sum() > 40 and changed[:18].sum() == 0


def zoomed(point, yaw=0.0, scale=6.0):
    """A camera whose image's middle is a point of space."""
    label = front(yaw)
    cam2world, k = label[:16].reshape(4, 4), label[16:].reshape(3, 3)
    x, y, z = (np.asarray(point) - cam2world[:3, 3]) @ cam2world[:3, :3]
    k[0, 0] *= scale
    k[1, 1] *= scale
    k[:2, 2] = 0.5 - k[0, 0] * x / z, 0.5 - k[1, 1] * y / z
    return label


@pytest.mark.parametrize("gaze", [(0.0, 0.0), (0.35, 0.0), (-0.35, 0.1)])
def test_irises_are_round_and_darker_than_the_white_wherever_they_look(gaze):
    someone = person(
        2,
        hair_style="bald",
        beard="none",
        glasses="none",
        iris=np.full(3, 0.03, np.float32),
        skin=np.full(3, 0.5, np.float32),
    )
    figure = pose(someone, {"eyeWideLeft": 1.0, "eyeWideRight": 1.0}, light(1), gaze)
    middle = figure.eyes.centers[0] + RADIUS * gaze_direction(*gaze)
    image = draw_figure(figure, zoomed(middle, scale=10.0), 96)
    gray = image.rgb.astype(float).mean(-1)
    k = zoomed(middle, scale=10.0)[16:].reshape(3, 3)
    radius = IRIS_RADIUS * k[0, 0] * 96 / 2.5  # pixels
    row, column = np.mgrid[:96, :96] - 47.5
    away = np.hypot(row, column)
    level = np.abs(row) < 0.45 * radius  # the lids hide top and bottom
    inside = gray[level & (away < 0.8 * radius) & (away > 0.5 * radius)]
    outside = gray[level & (away > 1.25 * radius) & (away < 1.5 * radius)]
    assert np.median(outside) - np.median(inside) > 60
    assert np.quantile(inside, 0.9) < np.quantile(outside, 0.3)
    pupil = gray[(away < 0.25 * radius)]
    assert np.median(pupil) < np.median(inside)


def test_a_closed_eye_shows_neither_white_nor_iris():
    green = {"iris": np.array([0.0, 0.5, 0.0], np.float32), "glasses": "none"}
    someone = person(2, hair_style="bald", beard="none", **green)
    middle = load_assets().template.landmarks["pupilLeft"]
    seen = []
    for weight in (0.0, 1.0):
        figure = pose(someone, {"eyeBlinkLeft": weight}, light(1))
        rgb = draw_figure(figure, zoomed(middle, scale=8.0), 64).rgb.astype(int)
        seen.append((rgb[..., 1] > rgb[..., 0] + 20).sum())
    assert seen[0] > 150 and seen[1] == 0


def test_an_open_mouth_shows_teeth_with_depth_and_a_shut_one_none():
    someone = person(1, hair_style="bald", beard="none", skin=np.full(3, 0.05, np.float32))
    spot = load_assets().template.landmarks["mouthCentre"]
    views = {}
    for name, weights in (("shut", {}), ("open", {"jawOpen": 0.6})):
        image = draw_figure(pose(someone, weights, light(1)), zoomed(spot, scale=5.0), 64)
        ivory = (image.rgb.min(-1) > 110) & (image.rgb.max(-1) - image.rgb.min(-1) < 70)
        views[name] = (image, ivory)
    assert not views["shut"][1].any() and (views["shut"][0].uv >= 0).all()
    image, ivory = views["open"]
    assert ivory.sum() > 40 and (image.uv[ivory][:, 0] == -1).mean() > 0.8
    lips = views["shut"][0].depth[ivory]
    assert np.median(image.depth[ivory] - lips) > 0.004  # behind the lips
    dark = (image.rgb.max(-1) < 60) & (image.alpha == 255)
    assert dark.sum() > 20  # and the throat


def test_the_chin_throws_a_soft_shadow_on_the_neck():
    assets = load_assets()
    neck = np.square(assets.template.vertices - [0.0, -0.28, 0.03]).sum(1).argmin()
    cheek = np.square(assets.template.vertices - assets.template.landmarks["cheekLeft"]).sum(1)
    above, ahead = (
        assets.visibility.soft_light(np.array(d)) for d in ([0.0, 0.8, 0.6], [0.0, 0.0, 1.0])
    )
    assert above[neck] < 0.5 < ahead[neck]
    assert above[cheek.argmin()] > 0.8
    assert min(above.min(), ahead.min()) > 0 and max(above.max(), ahead.max()) <= 1 + 1e-6
    socket = np.square(assets.template.vertices - [0.046, 0.0775, 0.2]).sum(1).argmin()
    assert 0.1 < assets.occlusion[socket] < 0.7 < assets.occlusion[cheek.argmin()]


def test_hair_has_no_seam_at_the_back():
    shell = load_assets().shell
    for style in HAIR_STYLES:
        points = hair.vertices(person(3, hair_style=style), shell).reshape(-1, hair.COLUMNS + 1, 3)
        np.testing.assert_allclose(points[:, 0], points[:, -1], atol=1e-9)
    s = np.linspace(0, 3, 50)
    left, right = (ring(np.full(50, phi), s, 38, 7.5) for phi in (-np.pi, np.pi))
    np.testing.assert_allclose(left, right, atol=1e-6)
    assert ring(np.linspace(-3, 3, 50), s, 38, 7.5).std() > 0.2


def test_age_and_frowns_draw_lines_and_strong_faces_draw_stronger_ones():
    base = {"hair_style": "bald", "beard": "none", "glasses": "none", "freckles": 0.0}
    spot = load_assets().template.landmarks["forehead"]

    def relief(age, **expression):
        figure = pose(person(2, age=age, **base), expression, light(1))
        gray = draw_figure(figure, zoomed(spot, scale=5.0), 64).rgb.astype(float).mean(-1)
        return np.abs(np.diff(gray, 2, axis=0))[:, 16:48].mean()

    young, old = relief(0.0), relief(1.0)
    assert old > 2 * young
    assert relief(0.0, browInnerUp=1.0) > 1.5 * young


def test_display_values_come_close_to_srgb_and_powers_are_powers():
    light_ = np.linspace(0, 0.8, 1001, dtype=np.float32)
    exact = np.where(light_ <= 0.0031308, 12.92 * light_, 1.055 * light_ ** (1 / 2.4) - 0.055)
    assert np.abs(display(light_) - exact).max() < 1 / (16 * 255)
    bright = display(np.array([0.8, 1.0, 4.0, 100.0]))
    assert (np.diff(bright[:3]) > 0).all() and bright[3] == bright[2] <= 1.0
    x = light_[200:]
    np.testing.assert_allclose(power(x, 26), x.astype(float) ** 26, rtol=1e-5)


def test_the_documentation_says_how_often_what_occurs():
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    assert statistics.describe() in text, "run python -m gghead.data.synthetic.statistics"


def test_people_differ():
    images = [render(person(seed), {}, light(1), front(), 24).rgb.astype(int) for seed in range(8)]
    for i, first in enumerate(images):
        assert all(np.abs(first - other).mean() > 6 for other in images[:i])


# ----------------------------------------------------------------------------------------- data set
def test_cameras_follow_the_named_distribution():
    def angles(kind):
        labels = torch.from_numpy(
            np.stack([sample_label(np.random.RandomState(i), kind) for i in range(300)])
        )
        cameras = Cameras.from_label(labels).validate()
        torch.testing.assert_close(
            cameras.position.norm(dim=-1), torch.full((300,), 2.7, dtype=torch.float64)
        )
        return [angle.numpy() for angle in cameras.angles()]

    yaw, pitch, roll = angles("ffhq")
    assert abs(yaw.std() - 0.30) < 0.04 and abs(pitch.std() - 0.15) < 0.03 and roll.std() < 0.06
    yaw = angles("full")[0]
    assert all(
        ((yaw > low) & (yaw < low + np.pi / 4)).sum() > 15 for low in np.arange(-4, 4) * np.pi / 4
    )
    with pytest.raises(UserError, match="'ffhq' or 'full'"):
        Request(1, 8, cameras="front")


def test_images_are_pure_functions_and_views_share_the_person():
    request = Request(num=8, resolution=16, seed=5, views=2, expressions=2)
    image, label, record = draw(request, 6)
    again = draw(request, 6)
    assert (
        np.array_equal(image.rgb, again[0].rgb)
        and np.array_equal(label, again[1])
        and record == again[2]
    )
    records = [scene[2] for scene in scenes(request)]
    ids = [(record["subject"], record["expression_id"], record["camera"]) for record in records]
    assert ids == [
        (0, 0, 0),
        (0, 0, 1),
        (0, 1, 0),
        (0, 1, 1),
        (1, 0, 0),
        (1, 0, 1),
        (1, 1, 0),
        (1, 1, 1),
    ]
    assert records[0]["blendshapes"] == records[1]["blendshapes"] != records[2]["blendshapes"]
    other = draw(dataclasses.replace(request, seed=6), 6)[0]
    assert not np.array_equal(image.rgb, other.rgb)


def test_recipe_writes_the_same_bytes_whatever_the_workers(tmp_path):
    options = [
        "--num=12",
        "--resolution=16",
        "--seed=1",
        "--uv=1",
        "--depth=1",
        "--cameras=full",
        "--views=3",
    ]
    for workers in (1, 2):
        result = run_recipe(
            f"--dest={tmp_path / str(workers)}.zip", f"--workers={workers}", *options
        )
        assert result.exit_code == 0, result.output
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    dataset = ImageDataset(tmp_path / "1.zip", mirror=True)
    assert len(dataset) == 24 and dataset.has_masks and dataset.resolution == 16
    assert [dataset.record(i).subject for i in range(dataset.num_files)] == [
        i // 3 for i in range(12)
    ]
    assert (
        dataset.info.tables["uv"][dataset.name(0)] == "uv/00000/img00000000.npy"
        and len(dataset.info.tables["depth"]) == 12
    )


def test_recipe_refuses_in_one_sentence(tmp_path):
    result = run_recipe(f"--dest={tmp_path / 'heads'}", "--num=1")
    assert (
        result.exit_code == 1
        and "must end in .zip" in result.output
        and "Traceback" not in result.output
    )


def test_the_recipe_starts_from_anywhere_without_an_installation(tmp_path):
    command = [sys.executable, str(RECIPE), "--help"]
    result = subprocess.run(command, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True)
    assert result.returncode == 0 and "--dest" in result.stdout, result.stderr
