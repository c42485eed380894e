"""Captures and sequences in memory: the shared sets by reprojection, views, splits, extras, sizes,
threads."""

import dataclasses
import pickle
import threading

import helpers.foreign_captures as captures_of
import helpers.foreign_sequences as sequences_of
import numpy as np
import pytest
import torch
from helpers.places import SHARED
from PIL import Image, ImageDraw

from gghead.data.captures import TrackedSequence
from gghead.data.formats import read
from gghead.data.formats.parsing import ReadOptions
from gghead.torch_utils.errors import UserError

needs_shared = pytest.mark.skipif(
    not (SHARED / "mvheads").exists(), reason="the shared data sets are not beside the repository"
)


def seen(frames, index, points):  # [P, 3] -> [P, 2] divided by the image size
    camera = frames.cameras[index]
    away = (torch.as_tensor(points, dtype=torch.float64) - camera.position) @ camera.cam2world[
        :3, :3
    ]
    return ((away @ camera.intrinsics.T)[:, :2] / away[:, 2:]).numpy()


def silhouette(frames, index, vertices, triangles):
    """The outline of a mesh as a mask: every triangle filled."""
    width, height = frames.size(index)
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    corners = (seen(frames, index, vertices) * (width, height))[triangles]
    for triangle in corners:
        draw.polygon([tuple(point) for point in triangle], fill=255)
    return np.asarray(mask) > 0


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


# ---------------------------------------------------------------------------------- the shared sets
@needs_shared
def test_mvheads_by_its_own_geometry():
    frames = read(SHARED / "mvheads/mvheads.zip")
    assert (frames.kind, len(frames), len(frames.subjects), len(frames.camera_names)) == (
        "captures",
        4800,
        120,
        20,
    )
    assert (
        frames.moments == ("0", "1")
        and frames.width == 53
        and frames.coefficient_names[0] == "browDown_L"
    )
    geometry = np.load(SHARED / "mvheads/geometry.npz")
    for subject, camera in ((0, 7), (57, 2), (119, 14)):
        views = frames.views(subject, 0, cameras=[f"{camera:02d}"])
        index = int(views.indices[0])
        label = frames.cameras.label()[index]
        pose, k = label[:16].reshape(4, 4).numpy(), label[16:].reshape(3, 3).numpy()
        points = geometry["landmarks68"][subject, 0].astype(np.float64)
        np.testing.assert_allclose(frames.landmarks[index], points, atol=1e-7)
        y = (points - pose[:3, 3]) @ pose[:3, :3]  # the formula of the set's README
        wanted = (
            np.stack(
                [k[0, 0] * y[:, 0] / y[:, 2] + k[0, 2], k[1, 1] * y[:, 1] / y[:, 2] + k[1, 2]], -1
            )
            * 256
        )
        np.testing.assert_allclose(
            seen(frames, index, frames.landmarks[index]) * 256, wanted, atol=1e-3
        )
        mask = views.alpha[0, 0].numpy() > 127
        outline = silhouette(
            frames, index, geometry["vertices"][subject].astype(np.float64), geometry["triangles"]
        )
        assert overlap(mask, outline) > 0.97
        np.testing.assert_allclose(
            views.coefficients, geometry["expression"][subject, 0], atol=1e-3
        )
    assert frames.name(0) == "images/000/e0_c00.jpg" and frames.expressions_of(3) == ("0", "1")


@needs_shared
def test_avatar_by_its_own_geometry():
    frames = read(SHARED / "avatar/sequence")
    assert (frames.kind, len(frames), frames.fps, frames.width) == ("sequence", 600, 25.0, 53)
    assert [len(frames.split(name)) for name in ("train", "test")] == [450, 150]
    geometry = np.load(SHARED / "avatar/sequence/geometry.npz")
    for index in (0, 233, 599):
        points = geometry["landmarks68"][index].astype(np.float64)
        pose = frames.cameras.cam2world[index].numpy()
        y = (points - pose[:3, 3]) @ pose[:3, :3]
        np.testing.assert_allclose(
            seen(frames, index, frames.landmarks[index]) * 256,
            742.4 * y[:, :2] / y[:, 2:] + 128,
            atol=1e-3,
        )
        mask = frames.get(index).alpha[0].numpy() > 127
        outline = silhouette(
            frames, index, geometry["neutral"].astype(np.float64), geometry["triangles"]
        )
        assert overlap(mask, outline) > 0.97  # the neutral head; its jaw moves a little
        inside = (seen(frames, index, points) * 256).astype(int)
        assert mask[inside[17:, 1], inside[17:, 0]].mean() > 0.95
    low, high = frames.coefficient_range()
    train = frames.split("train").coefficients
    assert (
        torch.equal(low, train.amin(0))
        and torch.equal(high, train.amax(0))
        and not torch.equal(high, frames.coefficient_range(None)[1])
    )


# ---------------------------------------------------------------------------------------- in memory
@pytest.fixture
def rig(tmp_path):
    captures_of.nersemble(tmp_path, tracked=True)
    return read(tmp_path, options=ReadOptions(flame=tmp_path / "flame.npz"))


def test_views_are_one_instant_of_one_head(rig):
    views = rig.views("037", "EXP-2-eyes/00002", cameras=["222200046", "222200037"])
    assert (
        views.rgb.shape == (2, 3, 128, 96)
        and views.alpha.shape == (2, 1, 128, 96)
        and len(views.cameras) == 2
    )
    assert [rig.name(int(i))[-19:] for i in views.indices] == [
        "222200046_00002.png",
        "222200037_00002.png",
    ]
    torch.testing.assert_close(
        views.cameras.cam2world, rig.cameras.cam2world[views.indices].float()
    )
    assert len(rig.views("037", "EXP-2-eyes/00002").rgb) == 3
    assert rig.cameras_of("037", "EXP-2-eyes/00001") == ("220700191", "222200037", "222200046")
    chosen = rig.select(cameras=["222200037"], split="train")
    assert len(chosen) == 3 and chosen.kind == "captures"
    for call, sentence in (
        (lambda: rig.views("038", "EXP-2-eyes/00002"), "no subject '038'; it has 037"),
        (lambda: rig.views("037", "EXP-9"), "no expression 'EXP-9'"),
        (lambda: rig.views("037", "EXP-2-eyes/00002", ["7"]), "no camera '7'"),
        (lambda: rig.take([0]).views("037", "EXP-2-eyes/00001", ["222200046"]), "did not see"),
        (lambda: rig.split("val"), "no split 'val'; its splits are train, test"),
    ):
        with pytest.raises(UserError, match=sentence):
            call()


def test_kinds_change_into_one_another(rig):
    sequence = TrackedSequence.of(rig)
    assert (np.diff(sequence.moment) >= 0).all() and len(sequence.in_time(1, 3)) == 6
    assert sequence.as_captures().moments == rig.moments
    # camera by camera, as a selection may leave them
    order = np.argsort(sequence.camera, kind="stable")
    again = TrackedSequence.of(sequence.as_captures().take(order))
    assert (np.diff(again.moment) >= 0).all() and again.name(0) == sequence.name(0)
    with pytest.raises(UserError, match="no expression coefficients"):
        TrackedSequence.of(dataclasses.replace(rig, coefficients=None, coefficient_names=None))


def test_extras_become_named_columns(tmp_path):
    example = sequences_of.metrical(tmp_path)
    frames = read(tmp_path, options=ReadOptions(test_frames=2))
    wide = frames.with_extras("jaw", "eyelids")
    assert wide.width == 105 and wide.coefficient_names[99:102] == ("exp_99", "jaw_0", "jaw_1")
    assert wide.coefficient_names[-1] == "eyelids_1"
    np.testing.assert_allclose(
        wide.get(4).coefficients[100:103], example.extras["jaw"][4], atol=1e-6
    )
    assert frames.with_extras() is frames
    with pytest.raises(UserError, match="no 'tongue' to append.*jaw, eyes, eyelids"):
        frames.with_extras("tongue")


@pytest.mark.parametrize("resolution", [(48, 64), (40, 40), (30, 64), 25])
def test_what_is_seen_stays_where_the_camera_says(rig, resolution):
    points = (captures_of.POINTS / 0.373) + [0, 0.027, 0.111]
    small = rig.resize(resolution)
    for index in (0, 5):
        frame = small.get(index)
        width, height = small.size(index)
        assert frame.rgb.shape == (3, height, width) and frame.alpha.shape == (1, height, width)
        original, now = (
            seen(rig, index, points) * rig.size(index),
            seen(small, index, points)
            * (
                width,
                height,
            ),
        )
        # A centered crop followed by a scaling, in pixels.
        factor = max(width / 96, height / 128)
        np.testing.assert_allclose(
            now, (original - (48, 64)) * factor + (width / 2, height / 2), atol=1e-9
        )
    with pytest.raises(ValueError, match="already resized"):
        small.resize(8)
    with pytest.raises(UserError, match="at least 1x1"):
        rig.resize((0, 5))


def test_resized_images_show_the_crop(rig):
    whole, square = rig.get(0), rig.resize(96).get(0)
    assert torch.equal(square.rgb, whole.rgb[:, 16:112]) and torch.equal(
        square.alpha, whole.alpha[:, 16:112]
    )


def test_pickled_and_read_by_many_threads(rig):
    copy = pickle.loads(pickle.dumps(rig.resize((48, 64))))
    assert copy.subjects == rig.subjects and torch.equal(
        copy.cameras.cam2world, rig.cameras.cam2world
    )
    wanted = [rig.resize((48, 64)).get(index).rgb for index in range(len(rig))]
    wrong = []

    def work(seed):
        for index in np.random.RandomState(seed).permutation(len(rig)):
            if not torch.equal(copy.get(int(index)).rgb, wanted[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong
    copy.get(0).rgb.zero_()  # callers may write into what they get
    assert torch.equal(copy.get(0).rgb, wanted[0])
    with pytest.raises(IndexError):
        copy.get(9)


def test_only_names_and_small_arrays_are_held(tmp_path):
    sequences_of.insta(tmp_path)
    frames = read(tmp_path, options=ReadOptions(test_frames=1))
    before = len(pickle.dumps(frames))
    frames.get(0), frames.get(3)
    assert len(pickle.dumps(frames)) == before < 20_000
    assert frames.images.names.dtype.kind == "S"


def test_images_of_another_size_than_their_cameras_are_refused(rig, tmp_path):
    path = tmp_path / rig.name(4)
    Image.new("RGB", (20, 20)).save(path)
    with pytest.raises(UserError, match="is 20x20, but its camera belongs to images of 96x128"):
        rig.get(4)
    path.unlink()
    with pytest.raises(UserError, match="is missing"):
        rig.get(4)
    mask = tmp_path / rig.images.masks[2].decode()
    Image.new("L", (96, 128)).save(mask)
    with pytest.raises(UserError, match="mask of .* is empty"):
        rig.get(2)
