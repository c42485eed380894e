"""Making the landmark model: places from views, shapes moved onto others, the shipped file."""

import numpy as np
import pytest
from calibrate_landmarks import (
    Views,
    ibug_model,
    mirror_from_images,
    onto,
    sliding,
    statistics,
    symmetric,
    triangulate,
)
from helpers.places import SHARED

from gghead.cameras import Cameras
from gghead.data.photos.landmarks import landmark_model, save_models
from gghead.data.photos.pose import FACE_ORIGIN, project

MIRROR = np.array([1, 0, 3, 2, 4])


@pytest.fixture
def places():
    """Five points around the face, symmetric but for the last two digits."""
    half = np.array([[0.05, 0.02, 0.03], [0.08, -0.04, 0.01]])
    points = np.stack(
        [half[0], half[0] * [-1, 1, 1], half[1], half[1] * [-1, 1, 1], [0, 0.06, 0.05]]
    )
    return points + FACE_ORIGIN * [0, 1, 1]


def rotations(count=7):
    import torch

    yaw = torch.linspace(-0.5, 0.5, count, dtype=torch.float64)
    return Cameras.orbit(yaw, 0.3 * yaw.flip(0)).cam2world[:, :3, :3].numpy()


def views_of(places):
    turns = rotations()
    return Views(np.stack([project(rotation, places) for rotation in turns]), turns)


def test_places_are_found_from_views(places):
    found, distance = triangulate(views_of(places))
    np.testing.assert_allclose(found, places, atol=1e-9)
    assert distance.max() < 1e-9


def test_a_point_that_slides_is_told_by_how_far_it_strays(places):
    views = views_of(places)
    views.points[:, 4, 0] += np.linspace(-0.02, 0.02, len(views.points))[::-1] ** 2 * 50
    strays = sliding(views, np.zeros(len(views.points)))
    assert strays.argmax() == 4 and strays[4] > 100 * strays[:4].max()


def test_a_shape_is_moved_onto_another_by_a_similarity(places):
    turn = rotations()[0]
    other = 1.7 * places @ turn.T + [0.1, -0.2, 0.3]
    np.testing.assert_allclose(onto(places, other, np.arange(4)), other, atol=1e-9)
    np.testing.assert_allclose(symmetric(places, MIRROR), places, atol=1e-12)
    moved = places + [0.01, 0, 0]
    np.testing.assert_allclose(symmetric(moved, MIRROR), places, atol=1e-12)


def test_mirrored_points_are_found_from_flipped_images(places):
    points = project(rotations()[3], places) + 0.5
    flip = np.array([[-1, 1], [1, 0]])
    as_detected = points[MIRROR] * flip[0] + flip[1]  # the left eye where the right one was
    assert mirror_from_images([(points, as_detected)]).tolist() == MIRROR.tolist()
    assert mirror_from_images([(points, points * flip[0] + flip[1])]).tolist() == [0, 1, 2, 3, 4]


def test_modes_and_rest_explain_the_residuals(places):
    random = np.random.RandomState(0)
    many = np.concatenate([rotations(40)] * 5)
    points = np.stack([project(rotation, places) for rotation in many])
    shift = 0.01 * random.standard_normal((len(many), 1, 1)) * np.array([0.0, 1.0])
    count = 30  # more numbers than modes
    repeated, index = np.tile(places, (count // 5, 1)), np.arange(count)
    mirror = np.concatenate([MIRROR + 5 * part for part in range(count // 5)])
    views = Views(np.tile(points + shift, (1, count // 5, 1)), many)
    model = statistics("ibug68", index, repeated, views, mirror)
    first = model.modes[0]
    assert np.abs(first[:, 0]).max() < 1e-6, "all points move up and down together"
    np.testing.assert_allclose(np.abs(first[:, 1]), shift[..., 1].std(), rtol=0.05)
    assert np.abs(model.modes[1:]).max() < 1e-6


@pytest.mark.skipif(not (SHARED / "mvheads").is_dir(), reason="mvheads is not here")
def test_the_shipped_ibug_model_is_made_again(tmp_path, monkeypatch):
    from gghead.data.photos import landmarks

    known = landmark_model("ibug68")
    save_models(tmp_path / "a.npz", [ibug_model(SHARED / "mvheads")], landmarks.mirror_index())
    monkeypatch.setattr(landmarks, "MODEL_FILE", tmp_path / "a.npz")
    made = landmark_model.__wrapped__("ibug68")
    for field in ("index", "mean", "sd"):
        np.testing.assert_allclose(
            getattr(made, field), getattr(known, field), rtol=1e-5, atol=2e-6
        )
    # modes of nearly the same size may be turned into one another
    np.testing.assert_allclose((made.modes**2).sum(0), (known.modes**2).sum(0), rtol=0.01)
