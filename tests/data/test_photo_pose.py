"""gghead.data.photos.pose: cameras from landmarks, against known cameras."""

import importlib.util
import json
import zipfile

import numpy as np
import pytest
import torch
from calibrate_landmarks import TRAINING_SUBJECTS, accuracy, crop_view, load_mvheads
from helpers.places import SHARED

from gghead.cameras import FFHQ_RADIUS, Cameras
from gghead.data.photos import pose
from gghead.data.photos.crop import Crop
from gghead.data.photos.landmarks import SCHEMES, landmark_model, level_angle, mirror_index
from gghead.template import load_template
from gghead.torch_utils.errors import UserError

MVHEADS = SHARED / "mvheads"
needs_mvheads = pytest.mark.skipif(
    not MVHEADS.is_dir(), reason="../shared/data/mvheads is not here"
)


def camera_axes(yaw, pitch, roll=0.0) -> np.ndarray:
    return (
        Cameras.orbit(*(torch.tensor([np.radians(a)]) for a in (yaw, pitch, roll)))
        .cam2world[0, :3, :3]
        .numpy()
    )


def angles(rotations) -> np.ndarray:  # [V, 3, 3] -> [V, 3] degrees
    poses = torch.eye(4, dtype=torch.float64).repeat(len(rotations), 1, 1)
    poses[:, :3, :3] = torch.from_numpy(np.stack(rotations))
    cameras = Cameras(poses, torch.eye(3, dtype=torch.float64).expand(len(rotations), 3, 3))
    return np.degrees(torch.stack(cameras.angles(), -1).numpy())


def between(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between two rotations."""
    return float(np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))))


def observe(
    rotation,
    scheme="mediapipe478",
    center=(300.0, 200.0),
    size=400.0,
    noise=0.0,
    rng=None,
    spread=0.0,
):
    """All points of a scheme as a camera sees the model's mean, moved by random modes and noise
    (crop sides)."""
    model = landmark_model(scheme)
    seen = pose.project(rotation, model.mean)
    if rng is not None:
        seen = seen + np.tensordot(spread * rng.standard_normal(len(model.modes)), model.modes, 1)
        seen = seen + noise * rng.standard_normal(seen.shape)
    points = np.zeros((SCHEMES[scheme], 2))
    points[model.index] = np.array(center) + size * seen
    return points


@pytest.mark.parametrize("scheme", SCHEMES)
def test_exact_points_give_back_the_camera(scheme):
    rng = np.random.default_rng(0)
    for _ in range(12):
        yaw, pitch, roll = rng.uniform(-1, 1, 3) * [50, 30, 180]
        rotation, center, size = (
            camera_axes(yaw, pitch),
            rng.uniform(-50, 900, 2),
            rng.uniform(40, 2000),
        )
        cos, sin = np.cos(np.radians(roll)), np.sin(np.radians(roll))
        leaning = rotation @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        fit = pose.fit_pose(observe(leaning, scheme, center, size), landmark_model(scheme))
        assert between(fit.rotation, leaning) < 0.1
        assert np.abs(fit.center - center).max() < 0.002 * size and abs(fit.size / size - 1) < 0.002
        assert fit.residual < 1e-3


def test_noise_people_and_outliers_do_not_shrink_the_angles():
    rng = np.random.default_rng(1)
    model = landmark_model("mediapipe478")
    truth, found, sizes = [], [], []
    for _ in range(80):
        rotation = camera_axes(rng.uniform(-35, 35), rng.uniform(-25, 25))
        points = observe(rotation, noise=0.004, rng=rng, spread=1.0)
        wrong = rng.choice(model.index, len(model.index) // 10, replace=False)
        points[wrong] += rng.uniform(-120, 120, (len(wrong), 2))
        fit = pose.fit_pose(points, model)
        truth.append(rotation)
        found.append(fit.rotation)
        sizes.append(fit.size / 400)
    truth, found = angles(truth), angles(found)
    slopes = [np.polyfit(truth[:, i], found[:, i], 1)[0] for i in (0, 1)]
    np.testing.assert_allclose(slopes, 1, atol=0.04)
    assert (found - truth).std(0).max() < 3
    assert abs(np.mean(sizes) - 1) < 0.01 and np.std(sizes) < 0.05


def test_gross_outliers_hardly_move_the_fit():
    model = landmark_model("mediapipe478")
    rotation = camera_axes(20, -10)
    clean = pose.fit_pose(observe(rotation, noise=0.002, rng=np.random.default_rng(2)), model)
    points = observe(rotation, noise=0.002, rng=np.random.default_rng(2))
    points[model.index[:40]] += 300
    assert between(pose.fit_pose(points, model).rotation, clean.rotation) < 1.5


def test_the_projection_has_the_derivative_it_claims():
    rotation, points = camera_axes(30, 20, 5), landmark_model("ibug68").mean
    projected, slope = pose._project_with_slope(rotation, points)
    np.testing.assert_allclose(projected, pose.project(rotation, points), atol=1e-12)
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = 1e-6
        ahead, behind = (
            pose.project(rotation @ pose._exponential(sign * step), points) for sign in (1, -1)
        )
        np.testing.assert_allclose(slope[..., axis], (ahead - behind) / 2e-6, atol=1e-6)


def test_the_projection_is_that_of_the_label():
    rotation, points = camera_axes(-25, 15, 8), landmark_model("ibug68").mean
    label = torch.from_numpy(Crop(np.zeros(2), 1.0).label(rotation))
    camera = Cameras.from_label(label)
    assert float(camera.position.norm()) == pytest.approx(FFHQ_RADIUS)
    seen = torch.from_numpy(np.c_[points, np.ones(len(points))]) @ camera.viewmats.T
    pixels = seen[:, :3] @ camera.intrinsics.T
    np.testing.assert_allclose(
        (pixels[:, :2] / pixels[:, 2:]).numpy() - 0.5, pose.project(rotation, points), atol=1e-9
    )
    origin = torch.from_numpy(np.r_[pose.FACE_ORIGIN, 1.0]) @ camera.viewmats.T
    np.testing.assert_allclose(origin[:2], 0, atol=1e-12)  # the face origin is in the middle


def test_moving_scaling_and_turning_the_points_moves_the_camera_alike():
    rng = np.random.default_rng(3)
    model, points = (
        landmark_model("mediapipe478"),
        observe(camera_axes(15, 10), noise=0.004, rng=rng, spread=1.0),
    )
    first = pose.fit_pose(points, model)
    angle, scale, shift = 2.1, 0.37, np.array([40.0, -700.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    second = pose.fit_pose(scale * points @ turn.T + shift, model)
    assert second.size == pytest.approx(scale * first.size, rel=1e-5)
    np.testing.assert_allclose(second.center, scale * turn @ first.center + shift, atol=1e-3)
    crop = Crop(second.center, second.size, angle)  # turned back, the label is the first one's
    np.testing.assert_allclose(
        crop.label(second.rotation), Crop(first.center, 1.0).label(first.rotation), atol=1e-5
    )


def test_the_mirror_image_has_the_mirrored_camera():
    rng = np.random.default_rng(4)
    model, points = (
        landmark_model("mediapipe478"),
        observe(camera_axes(22, -8, 3), noise=0.004, rng=rng, spread=1.0),
    )
    label = Crop(np.zeros(2), 1.0).label(pose.fit_pose(points, model).rotation)
    flipped = (points * [-1, 1] + [600, 0])[mirror_index()]
    mirrored = Crop(np.zeros(2), 1.0).label(pose.fit_pose(flipped, model).rotation)
    # The modes are rounded when stored, so they are symmetric to a few thousandths of a degree
    # only.
    np.testing.assert_allclose(
        mirrored, Cameras.from_label(torch.from_numpy(label)).mirror().label(), atol=2e-3
    )


@pytest.mark.parametrize("points", [np.full((478, 2), 3.0), np.full((478, 2), np.nan)])
def test_points_that_tell_nothing_are_refused(points):
    with pytest.raises(UserError, match="landmarks of a face must be finite"):
        pose.fit_pose(points, landmark_model("mediapipe478"))


def test_the_model_is_symmetric_and_lies_on_our_template():
    model, template = landmark_model("mediapipe478"), load_template("head")
    place = {int(number): i for i, number in enumerate(model.index)}
    partner = [place[int(mirror_index()[number])] for number in model.index]
    np.testing.assert_allclose(model.mean[partner], model.mean * [-1, 1, 1], atol=1e-5)
    ibug = dict(
        zip(landmark_model("ibug68").index.tolist(), landmark_model("ibug68").mean, strict=True)
    )
    for number, name in (
        (39, "eyeInnerRight"),
        (45, "eyeOuterLeft"),
        (54, "mouthCornerLeft"),
        (30, "noseTip"),
    ):
        assert np.linalg.norm(ibug[number] - template.landmarks[name]) < 0.03, name
    with pytest.raises(UserError, match="no landmark model for 'dlib5'"):
        landmark_model("dlib5")


def test_level_angle_is_the_lean_of_the_face():
    for scheme in SCHEMES:
        model = landmark_model(scheme)
        frontal = np.zeros((SCHEMES[scheme], 2))
        frontal[model.index] = pose.project(camera_axes(0, 0), model.mean)
        for degrees in (0, 35, -120):
            a = np.radians(degrees)
            points = frontal @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
            assert level_angle(points, scheme) == pytest.approx(a, abs=1e-6)


def check(result: dict[str, np.ndarray]) -> None:
    """No shrinkage of yaw beyond 5 % and of pitch beyond 10 %, standard deviations of at most 3
    degrees."""
    assert abs(result["slope"][0] - 1) <= 0.05 and abs(result["slope"][1] - 1) <= 0.10, result
    assert result["sd"].max() <= 3, result


@needs_mvheads
def test_known_landmarks_of_unseen_heads_give_their_cameras():
    """The heads' own iBUG points, of subjects that the model was not made from, with a detector's
    noise."""
    with np.load(MVHEADS / "geometry.npz") as file:
        marks = dict(
            zip(file["subject"].tolist(), file["landmarks68"].astype(np.float64), strict=True)
        )
    with zipfile.ZipFile(MVHEADS / "mvheads.zip") as archive:
        frames = json.loads(archive.read("dataset.json"))["frames"]
    rng, truth, found = np.random.default_rng(5), [], []
    for frame in frames:
        cam2world = np.array(frame["cam2world"])
        yaw = np.degrees(np.arctan2(cam2world[0, 3], cam2world[2, 3]))
        if frame["subject"] < TRAINING_SUBJECTS or abs(yaw) >= 35:
            continue
        seen = (marks[frame["subject"]][frame["expression_id"]] - cam2world[:3, 3]) @ cam2world[
            :3, :3
        ]
        points, rotation = crop_view(2.9 * seen[:, :2] / seen[:, 2:] + 0.5, cam2world, 2.9)
        truth.append(rotation)
        found.append(
            pose.fit_pose(
                points + 0.005 * rng.standard_normal(points.shape), landmark_model("ibug68")
            ).rotation
        )
    assert len(truth) > 300
    check(accuracy(np.stack(truth), np.stack(found)))


@needs_mvheads
@pytest.mark.skipif(
    importlib.util.find_spec("mediapipe") is None,
    reason="mediapipe is not installed (gghead[prep])",
)
def test_renders_of_unseen_heads_give_their_cameras():
    """From pixels: detected points of renders by known cameras."""
    from gghead.data.photos.mediapipe_faces import MediapipeLandmarks

    landmarker = MediapipeLandmarks()

    def find(image, name):
        faces = landmarker.faces(image, name, False)
        return faces[0].points if faces else None

    views, records = load_mvheads(MVHEADS, find, range(TRAINING_SUBJECTS, 120), yaw=35.0, step=4)
    fits = [pose.fit_pose(points, landmark_model("mediapipe478")) for points in views.points]
    assert len(records) > 120
    check(accuracy(views.rotation, np.stack([fit.rotation for fit in fits])))
    # Views are in crop coordinates: the true crop is the unit square around 0.
    assert np.abs(np.mean([fit.center for fit in fits], axis=0)).max() < 0.01
    assert abs(np.mean([fit.size for fit in fits]) - 1) < 0.02
