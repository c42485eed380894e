"""gghead.data.photos: crops, fill, guided filter, mattes, quality."""

import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from gghead.cameras import Cameras
from gghead.data.photos.config import Limits
from gghead.data.photos.crop import Crop, cut
from gghead.data.photos.mattes import (
    FolderMatte,
    fast_guided_filter,
    guided_filter,
    make_matte,
    refine,
)
from gghead.data.photos.pose import project
from gghead.data.photos.report import Measures, fault, score, sharpness
from gghead.torch_utils.errors import UserError

GOOD = {
    "scale": 1.2,
    "sharpness": 0.2,
    "filled": 0.05,
    "cut": 0.0,
    "yaw": 10.0,
    "pitch": 5.0,
    "residual": 0.002,
}


def brightest(image: np.ndarray) -> np.ndarray:  # [R, R] -> x, y in pixels from the outer corner
    weight = np.where(image > image.max() / 3, image, 0).astype(float)
    y, x = np.indices(image.shape) + 0.5
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def dot(width: int, height: int, at: np.ndarray, sigma: float) -> np.ndarray:
    y, x = np.indices((height, width)) + 0.5
    return np.rint(250 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * sigma**2))).astype(
        np.uint8
    )


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("angle", [0.0, 0.6, -2.4])
@pytest.mark.parametrize("size", [150.0, 700.0])  # enlarged and shrunk
def test_a_point_lands_where_the_label_says(angle, size, mirror):
    rotation = Cameras.orbit(0.4, -0.2, 0.1).cam2world[0, :3, :3].numpy().astype(np.float64)
    center = np.array([410.3, 388.8])
    crop = Crop(center, size, angle)
    label = torch.from_numpy(crop.label(rotation))
    for point in ([0.05, 0.08, 0.2], [-0.10, -0.06, 0.18], [0.0, 0.12, 0.25]):
        point = np.array(point)
        in_photo = center + size * project(rotation, point[None])[0]
        image, _ = cut(dot(820, 790, in_photo, max(size / 60, 2)), crop, 256)
        camera = Cameras.from_label(label)
        if mirror:
            image, camera, point = image[:, ::-1], camera.mirror(), point * [-1, 1, 1]
        seen = camera.intrinsics.numpy() @ (camera.viewmats.numpy() @ np.r_[point, 1])[:3]
        np.testing.assert_allclose(brightest(image), 256 * seen[:2] / seen[2], atol=0.35)


def test_an_upright_crop_of_whole_pixels_is_a_slice():
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    image, filled = cut(photo, Crop(np.array([60.0, 40.0]), 64.0), 64)
    np.testing.assert_array_equal(image, photo[8:72, 28:92])
    assert filled == 0


def test_crop_coordinates_go_there_and_back():
    crop, shares = (
        Crop(np.array([31.0, 77.0]), 45.0, 1.1),
        np.random.default_rng(1).uniform(0, 1, (20, 2)),
    )
    np.testing.assert_allclose(crop.from_photo(crop.to_photo(shares)), shares, atol=1e-12)
    assert Crop(np.array([50.0, 40.0]), 20.0).box == [40, 30, 60, 50]


def test_what_leaves_the_photo_is_reflected_blurred_and_counted():
    rng = np.random.default_rng(2)
    photo = np.repeat(rng.integers(0, 256, (64, 1, 3), dtype=np.uint8), 64, axis=1)  # noisy rows
    # the lower quarter lies outside
    image, filled = cut(photo, Crop(np.array([32.0, 48.0]), 64.0), 64)
    assert filled == pytest.approx(0.25)
    np.testing.assert_array_equal(image[:48], photo[16:])
    near = image[48].astype(int) - photo[62]  # the first made-up row is nearly the mirror image
    assert np.abs(near).max() < 80
    assert image[56:, 32].std() < 0.7 * photo[:, 32].std()  # further out it is blurred
    gray, filled = cut(
        np.full((30, 30, 3), 77, np.uint8), Crop(np.array([300.0, -200.0]), 40.0, 0.4), 32
    )
    assert filled == 1 and (gray == 77).all()


def test_the_turned_crop_counts_its_outside_too():
    photo = np.zeros((100, 100), np.uint8)
    _, filled = cut(photo, Crop(np.array([50.0, 50.0]), 100.0, np.pi / 4), 400)
    # the octagon of both squares lies inside
    assert filled == pytest.approx(1 - (2 * np.sqrt(2) - 2), abs=0.005)


def test_the_guided_filter_keeps_affine_masks_and_sharpens_soft_ones():
    rng = np.random.default_rng(3)
    guide = rng.uniform(0, 1, (48, 64, 3)).astype(np.float32)
    affine = 0.3 * guide[..., 0] - 0.2 * guide[..., 1] + 0.5 * guide[..., 2] + 0.1
    np.testing.assert_allclose(guided_filter(guide, affine, 4, 1e-7), affine, atol=2e-3)
    flat = np.full((48, 64), 0.7)
    np.testing.assert_allclose(guided_filter(guide, flat, 4), flat, atol=1e-3)
    step = np.where(np.arange(64) < 32, 0.1, 0.9).astype(np.float32)
    soft = np.clip((np.arange(64) - 24) / 16, 0, 1)
    guide = np.repeat(np.repeat(step[None, :, None], 48, 0), 3, 2)
    for sharp in (
        guided_filter(guide, np.tile(soft, (48, 1)), 8),
        fast_guided_filter(guide, np.tile(soft, (48, 1)), 8),
    ):
        assert sharp[20, 33] - sharp[20, 30] > 0.5  # the soft mask rises by 0.19 there


def test_refined_masks_reach_both_ends():
    image = np.zeros((256, 256, 3), np.uint8)
    image[64:192, 64:192] = 220
    alpha = refine(
        image,
        np.asarray(Image.fromarray((image[..., 0] > 0).astype(np.float32)).resize((32, 32))),
    )
    assert alpha.shape == (256, 256) and alpha.dtype == np.uint8
    assert alpha[128, 128] == 255 and alpha[20, 20] == 0


def test_masks_from_a_folder_follow_the_crop(tmp_path):
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:50] = 255
    (tmp_path / "a").mkdir()
    Image.fromarray(mask).save(tmp_path / "a" / "x.png")
    matte = FolderMatte(tmp_path)
    image = np.zeros((40, 40, 3), np.uint8)
    alpha = matte.alpha(image, "a/x.jpg", Crop(np.array([40.0, 30.0]), 40.0), (80, 60))
    np.testing.assert_array_equal(alpha, mask[10:50, 20:60])
    with pytest.raises(UserError, match=r"a/y.jpg has no mask a/y.png"):
        matte.alpha(image, "a/y.jpg", None, (80, 60))
    with pytest.raises(UserError, match=r"x.png is 80x60, but a/x.jpg is 90x60"):
        matte.alpha(image, "a/x.jpg", None, (90, 60))


@pytest.mark.parametrize(
    ("name", "masks", "sentence"),
    [
        ("modnet", None, "`matte=modnet` is unknown; use selfie, onnx:PATH or none"),
        ("onnx:nowhere.onnx", None, "matting network nowhere.onnx does not exist"),
        ("selfie", "nowhere", "nowhere is not a folder of masks"),
    ],
)
def test_wrong_mattes_are_refused(name, masks, sentence):
    with pytest.raises(UserError, match=sentence):
        make_matte(name, masks)


def test_a_matting_network_needs_onnxruntime_or_a_network(tmp_path):
    file = tmp_path / "broken.onnx"
    file.write_bytes(b"no network")
    with pytest.raises(
        UserError, match="pip install onnxruntime|no network that onnxruntime can read"
    ):
        make_matte(f"onnx:{file}", None)


def test_a_matting_network_is_asked_as_modnet_is(tmp_path, monkeypatch):
    """A stand-in for onnxruntime whose network returns the red channel."""

    class Session:
        def __init__(self, path, options, providers):
            assert options.intra_op_num_threads == 1

        def get_inputs(self):
            return [types.SimpleNamespace(name="input", shape=[1, 3, 64, 64])]

        def run(self, outputs, given):
            assert given["input"].shape == (1, 3, 64, 64) and given["input"].dtype == np.float32
            return [(given["input"][:, :1] + 1) / 2]

    fake = types.SimpleNamespace(InferenceSession=Session, SessionOptions=types.SimpleNamespace)
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    (tmp_path / "net.onnx").write_bytes(b"")
    image = np.zeros((128, 128, 3), np.uint8)
    image[:, 64:, 0] = 255
    alpha = make_matte(f"onnx:{tmp_path / 'net.onnx'}", None).alpha(image, "x", None, (128, 128))
    assert alpha.shape == (128, 128) and alpha[:, :60].max() == 0 and alpha[:, 68:].min() == 255


@pytest.mark.parametrize("side", [128, 1024])
def test_selfie_segmentation_sees_a_small_image_and_follows_its_edges(side, monkeypatch):
    """A stand-in for mediapipe's network, which sees little of what is large."""
    shown = []

    def process(image):
        shown.append(image.shape)
        return types.SimpleNamespace(segmentation_mask=(image[::2, ::2, 0] > 128) * 1.0)

    package = types.ModuleType("mediapipe")
    package.solutions = types.SimpleNamespace(
        selfie_segmentation=types.SimpleNamespace(
            SelfieSegmentation=lambda model_selection: types.SimpleNamespace(process=process)
        )
    )
    monkeypatch.setitem(sys.modules, "mediapipe", package)
    matte = make_matte("selfie", None)
    image = np.zeros((side, side, 3), np.uint8)
    image[:, side // 2 :] = 255
    alpha = matte.alpha(image, "x", None, (side, side))
    assert shown[-1] == (min(side, 512), min(side, 512), 3)
    margin = side // 32
    assert alpha.shape == (side, side) and alpha.dtype == np.uint8
    assert alpha[:, : side // 2 - margin].max() == 0
    assert alpha[:, side // 2 + margin :].min() == 255


def test_a_mediapipe_without_segmentation_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", types.ModuleType("mediapipe"))
    with pytest.raises(UserError, match="has no selfie segmentation; give `masks=DIR`"):
        make_matte("selfie", None)


def test_sharpness_falls_with_blur_and_not_with_brightness():
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(4)
    fine, coarse = (
        gaussian_filter(rng.standard_normal((256, 256)), sigma) for sigma in (1.0, 20.0)
    )
    photo = np.clip(128 + 60 * fine / fine.std() + 30 * coarse / coarse.std(), 0, 255)
    values = []
    for sigma in (0.01, 1.5, 3, 6):
        blurred = gaussian_filter(photo, sigma)
        values.append(sharpness(np.repeat(blurred[..., None], 3, 2).astype(np.uint8)))
    assert values == sorted(values, reverse=True) and values[0] > 3 * values[-1]
    dark = np.repeat(photo[..., None] / 2, 3, 2).astype(np.uint8)
    assert sharpness(dark) == pytest.approx(values[0], rel=0.05)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"scale": 0.4}, "too small"),
        ({"sharpness": 0.001}, "too blurred"),
        ({"filled": 0.4}, "cut off"),
        ({"cut": 0.2}, "cut off"),
        ({"yaw": -70.0}, "turned too far"),
        ({"pitch": 55.0}, "turned too far"),
        ({"residual": 0.1}, "poor fit"),
    ],
)
def test_each_fault_has_its_reason(change, reason):
    found = fault(Measures(**{**GOOD, **change}), Limits())
    assert (found and found[0]) == reason
    assert 0 <= score(Measures(**{**GOOD, **change})) <= 1
