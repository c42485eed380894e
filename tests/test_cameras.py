import json
import math

import pytest
import torch
from helpers.places import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st

from gghead.cameras import FFHQ_FOCAL, FFHQ_RADIUS, Cameras, focal_from_fov_deg
from gghead.torch_utils.errors import UserError

PHOTO_LABELS = SHARED / "photos/labels_reference.json"

angle = st.floats(-3.1, 3.1)
tilt = st.floats(-1.5, 1.5)
few = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def camera(yaw, pitch, roll, shift=0.0) -> Cameras:
    """A camera with an off-center principal point, a skew and unequal focals."""
    yaw, pitch, roll = (torch.tensor([value], dtype=torch.float64) for value in (yaw, pitch, roll))
    cameras = Cameras.orbit(yaw, pitch, roll, target=(0.1, shift, -0.2))
    intrinsics = cameras.intrinsics.clone()
    intrinsics[..., 0, 2] += shift
    intrinsics[..., 0, 1] = 0.5 * shift
    intrinsics[..., 1, 1] *= 1.2
    return Cameras(cameras.cam2world, intrinsics)


def same(first: Cameras, second: Cameras, atol: float = 1e-12) -> bool:
    return torch.allclose(first.cam2world, second.cam2world, atol=atol, rtol=0) and torch.allclose(
        first.intrinsics, second.intrinsics, atol=atol, rtol=0
    )


def test_the_frontal_camera():
    want = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2.7], [0, 0, 0, 1]])
    frontal = Cameras.orbit(0.0)
    assert frontal.shape == (1,) and torch.equal(frontal.cam2world[0], want)
    assert torch.allclose(
        frontal.intrinsics[0],
        torch.tensor([[FFHQ_FOCAL, 0, 0.5], [0, FFHQ_FOCAL, 0.5], [0, 0, 1]]),
        atol=1e-7,
    )


@few
@given(angle, tilt, angle)
def test_position_and_direction_follow_the_angles(yaw, pitch, roll):
    cameras = Cameras.orbit(*(torch.tensor(v, dtype=torch.float64) for v in (yaw, pitch, roll)))
    want = [math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)]
    want = FFHQ_RADIUS * torch.tensor([want], dtype=torch.float64)
    assert torch.allclose(cameras.position, want, atol=1e-12)
    assert torch.allclose(cameras.cam2world[..., :3, 2], -want / FFHQ_RADIUS, atol=1e-12)
    cameras.validate()


@few
@given(angle, tilt, angle)
def test_angles_come_back(yaw, pitch, roll):
    got = camera(yaw, pitch, roll, 0.3).angles()
    for want, value in zip((yaw, pitch, roll), got, strict=True):
        assert value.item() == pytest.approx(want, abs=1e-9)


@few
@given(angle, tilt, angle, st.floats(-0.3, 0.3))
def test_mirroring_twice_is_nothing_and_flips_the_angles(yaw, pitch, roll, shift):
    original = camera(yaw, pitch, roll, shift)
    mirrored = original.mirror()
    mirrored.validate()
    assert same(mirrored.mirror(), original)
    angles = [value.item() for value in mirrored.angles()]
    assert angles == pytest.approx([-yaw, pitch, -roll], abs=1e-9)


@few
@given(angle, tilt, angle, st.floats(-0.3, 0.3))
def test_view_matrix_is_the_inverse_and_labels_come_back(yaw, pitch, roll, shift):
    cameras = camera(yaw, pitch, roll, shift)
    eye = torch.eye(4, dtype=torch.float64)
    assert torch.allclose(cameras.cam2world @ cameras.viewmats, eye, atol=1e-12)
    assert torch.allclose(cameras.viewmats @ cameras.cam2world, eye, atol=1e-12)
    label = cameras.label()
    assert label.shape == (1, 25) and same(Cameras.from_label(label), cameras, atol=0)


def test_labels_of_photos_have_the_angles_that_were_measured():
    if not PHOTO_LABELS.exists():
        pytest.skip("the reference labels of the photo set are not here")
    reference = json.loads(PHOTO_LABELS.read_text())
    cameras = Cameras.from_label(
        torch.tensor([label for _, label in reference["labels"]])
    ).validate()
    frames = reference["frames"]
    yaw, pitch, roll = (angle.rad2deg() for angle in cameras.angles())
    # That file gives the head's yaw (nose to the right of the image); ours is the camera's, which
    # is opposite.
    for name, got in (("yaw", -yaw), ("pitch", pitch), ("roll", roll)):
        want = torch.tensor([frame[name] for frame in frames])
        assert (got - want).abs().max() < 0.02, name


def test_arguments_broadcast():
    assert Cameras.orbit(torch.zeros(3, 1), torch.zeros(4)).shape == (3, 4)
    assert Cameras.orbit(torch.tensor(0.3)).shape == (1,)
    assert Cameras.orbit(0.0, target=torch.zeros(5, 3)).shape == (5,)
    assert Cameras.orbit(torch.zeros(2, dtype=torch.float64), 0.1).cam2world.dtype == torch.float64


def test_pixel_intrinsics_scale_each_row_by_its_size():
    Ks = camera(0.0, 0.0, 0.0, 0.1).Ks(200, 100)[0]
    assert Ks[0].tolist() == pytest.approx([FFHQ_FOCAL * 200, 10.0, 120.0])
    assert Ks[1].tolist() == pytest.approx([0, 1.2 * FFHQ_FOCAL * 100, 50]) and Ks[2].tolist() == [
        0,
        0,
        1,
    ]


@few
@given(angle, tilt, angle, st.floats(-0.3, 0.3))
def test_projected_points_are_where_matrices_put_them(yaw, pitch, roll, shift):
    cameras = camera(yaw, pitch, roll, shift)
    points = torch.tensor(
        [[0.1, shift, -0.2], [0.3, -0.2, 0.4], [-0.1, 0.5, 0.0]], dtype=torch.float64
    )
    places, depth = cameras.project(points)
    # what it looks at is at the principal point
    torch.testing.assert_close(places[0, 0], cameras.intrinsics[0, :2, 2])
    assert float(depth[0, 0]) == pytest.approx(FFHQ_RADIUS)
    local = points @ cameras.viewmats[0, :3, :3].T + cameras.viewmats[0, :3, 3]
    pixels = local @ cameras.Ks(200, 100)[0].T
    torch.testing.assert_close(
        places[0] * torch.tensor([200.0, 100.0]), pixels[:, :2] / pixels[:, 2:]
    )
    torch.testing.assert_close(depth[0], local[:, 2])


def test_projecting_broadcasts_and_points_beside_the_camera_stay_finite():
    cameras = Cameras.orbit(torch.tensor([0.0, 1.0, 2.0]))
    places, depth = cameras.project(torch.randn(3, 5, 3))
    assert places.shape == (3, 5, 2) and depth.shape == (3, 5)
    assert cameras.project(torch.randn(4, 3))[0].shape == (3, 4, 2)
    places, depth = cameras[0].project(cameras[0].position[None])
    assert bool(places.isfinite().all()) and float(depth) == 0


def test_paths_start_in_front_and_close():
    table = Cameras.turntable(8, pitch=0.1)
    steps = [value.item() for value in table.angles()[0]]
    assert table.shape == (8,) and steps[1] - steps[0] == pytest.approx(math.pi / 4, abs=1e-5)
    sweep = Cameras.sweep(8, yaw_range=0.5)
    assert [value.item() for value in sweep.angles()[0][[0, 2, 6]]] == pytest.approx(
        [0, 0.5, -0.5], abs=1e-5
    )
    spiral = Cameras.spiral(4, yaw_range=0.3, pitch_range=0.2)
    assert [value.item() for value in spiral.angles()[1]] == pytest.approx(
        [0.2, 0, -0.2, 0], abs=1e-5
    )
    with pytest.raises(ValueError, match="at least one frame"):
        Cameras.turntable(0)


def test_focal_of_a_field_of_view():
    assert focal_from_fov_deg(90) == pytest.approx(0.5)
    assert focal_from_fov_deg(13.373) == pytest.approx(FFHQ_FOCAL, rel=1e-3)
    with pytest.raises(ValueError, match="between 0 and 180"):
        focal_from_fov_deg(180)


def test_indexing_joining_and_reshaping():
    cameras = Cameras.orbit(torch.arange(6) / 10)
    grid = cameras.reshape(2, 3)
    assert grid.shape == (2, 3) and grid[1, 2].shape == () and grid[..., 0].shape == (2,)
    assert same(grid[1], cameras[3:]) and same(Cameras.cat([cameras[:2], cameras[2:]]), cameras)
    assert len(cameras) == 6 and len(list(cameras)) == 6 and cameras[None].shape == (1, 6)
    assert same(cameras[torch.tensor([4, 5])], cameras[4:])
    with pytest.raises(IndexError):
        cameras[0, 0]
    assert cameras.to(torch.float64).intrinsics.dtype == torch.float64


def _break(cameras: Cameras, fault: str) -> Cameras:
    pose, intrinsics = cameras.cam2world.clone(), cameras.intrinsics.clone()
    if fault == "not finite":
        pose[2, 0, 3] = math.nan
    elif fault == "last row is not 0 0 0 1":
        pose[2, 3, 0] = 1
    elif fault == "not orthonormal":
        pose[2, :3, :3] *= 1.1
    elif fault == "left-handed":
        pose[2, :3, 0] *= -1
    elif fault == "focal length":
        intrinsics[2, 0, 0] = 0
    else:
        intrinsics[2, 2, 2] = 5
    return Cameras(pose, intrinsics)


@pytest.mark.parametrize(
    "fault",
    [
        "not finite",
        "last row is not 0 0 0 1",
        "not orthonormal",
        "left-handed",
        "focal length",
        "row is not 0 0 1",
    ],
)
def test_validate_names_the_camera_and_its_fault(fault):
    cameras = Cameras.orbit(torch.arange(4) / 10)
    assert cameras.validate() is cameras
    with pytest.raises(UserError, match=f"camera 2 .*{fault}"):
        _break(cameras, fault).validate()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="label must have shape"):
        Cameras.from_label(torch.zeros(3, 24))
    with pytest.raises(ValueError, match="same batch shape"):
        Cameras(torch.eye(4), torch.eye(3)[None])


@pytest.mark.parametrize("name", ["yaw", "pitch", "roll"])
def test_degrees_in_place_of_radians_are_noticed(name):
    with pytest.raises(ValueError, match=r"math.radians\(30\)"):
        Cameras.orbit(**{"yaw": 0.0, name: 30})
    assert Cameras.orbit(2 * math.pi).shape == (1,)
