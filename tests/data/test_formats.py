"""Readers of other projects' formats, tested by reprojection: known points land on the known
pixels."""

import json
import shutil

import helpers.foreign_captures as captures_of
import helpers.foreign_sequences as sequences_of
import numpy as np
import pytest
import torch
from helpers.examples import CAPTURES, SEQUENCES
from helpers.scene import POINTS

from gghead.data.captures import TrackedSequence
from gghead.data.files import open_source
from gghead.data.formats import FORMATS, detect, read
from gghead.data.formats.parsing import ReadOptions
from gghead.torch_utils.errors import UserError

# as documented in formats/flame.py
FLAME_SCALE, FLAME_OFFSET = 1 / 0.373, np.array([0.0, 0.027, 0.111])
TOLERANCE = 1e-3  # pixels


def reproject(frames, index, points):  # [P, 3] in our world -> [P, 2] pixels from the outer corner
    """The formula of the shared data's README: Y = R^T (X - t), u = fx Y0 / Y2 + cx, pixel = u
    W."""
    pose, k = frames.cameras.cam2world[index].numpy(), frames.cameras.intrinsics[index].numpy()
    y = (points - pose[:3, 3]) @ pose[:3, :3]
    u = k[0, 0] * y[:, 0] / y[:, 2] + k[0, 2]
    v = k[1, 1] * y[:, 1] / y[:, 2] + k[1, 2]
    return np.stack([u, v], -1) * frames.size(index)


def check(frames, example, points):
    """Every image once; its points where they were seen."""
    order = {name: index for index, name in enumerate(example.names)}
    assert sorted(frames.name(i) for i in range(len(frames))) == sorted(example.names)
    for index in range(len(frames)):
        wanted = order[frames.name(index)]
        np.testing.assert_allclose(
            reproject(frames, index, points), example.pixels[wanted], atol=TOLERANCE, rtol=0
        )
        frame = frames.get(index)
        assert tuple(frame.rgb.shape) == (3, *example.size[::-1]) and frame.rgb.dtype == torch.uint8
        if example.coefficients is not None:
            np.testing.assert_allclose(frame.coefficients, example.coefficients[wanted], atol=1e-6)
        for name, values in example.extras.items():
            np.testing.assert_allclose(frames.extras[name][index], values[wanted], atol=1e-5)
        inside = np.all(
            (example.pixels[wanted] > 4) & (example.pixels[wanted] < np.array(example.size) - 4),
            axis=1,
        )
        for u, v in example.pixels[wanted][inside]:  # and the image shows a light dot there
            assert int(frame.rgb[:, int(v), int(u)].min()) > 150


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_reproject(name, tmp_path):
    write, settings = SEQUENCES[name]
    example = write(tmp_path)
    if (tmp_path / "flame.npz").exists():
        settings = {**settings, "flame": tmp_path / "flame.npz"}
    frames = read(tmp_path, "auto", ReadOptions(**settings))
    assert (frames.kind, frames.format) == ("sequence", name)
    offset = np.zeros(3) if name == "nerfblendshape" else FLAME_OFFSET
    check(frames, example, FLAME_SCALE * example.points + offset)
    assert frames.splits[0] == "train" and len(frames.split("test")) in (2, 4)
    assert (np.diff(frames.moment) >= 0).all()
    assert not frames.notes or name == "nerfblendshape" or "alpha" in frames.notes[0]


def similarity_between(frames, poses):
    """The similarity that took the cameras of the files to ours, from two cameras alone."""
    ours = frames.cameras.cam2world.numpy()
    rotation = ours[0, :3, :3] @ poses[0][:3, :3].T
    scale = np.linalg.norm(ours[1, :3, 3] - ours[0, :3, 3]) / np.linalg.norm(
        poses[1][:3, 3] - poses[0][:3, 3]
    )
    return scale, rotation, ours[0, :3, 3] - scale * rotation @ poses[0][:3, 3]


@pytest.mark.parametrize("name", CAPTURES)
def test_captures_reproject_where_the_user_places_them(name, tmp_path):
    example = CAPTURES[name](tmp_path)
    scale, rotation, offset = 2.5, captures_of.turn(-12, 40, 7), np.array([0.2, -0.1, 0.3])
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = scale * rotation, offset
    frames = read(tmp_path, "auto", ReadOptions(world=tuple(map(tuple, world.tolist()))))
    assert (frames.kind, frames.format) == ("captures", name)
    check(frames, example, scale * example.points @ rotation.T + offset)


@pytest.mark.parametrize("name", CAPTURES)
def test_captures_are_placed_by_their_cameras(name, tmp_path):
    example = CAPTURES[name](tmp_path)
    identity = tuple(map(tuple, np.eye(4).tolist()))
    as_filed = read(tmp_path, "auto", ReadOptions(world=identity)).cameras.cam2world.numpy()
    frames = read(tmp_path)
    scale, rotation, offset = similarity_between(frames, as_filed)
    points = scale * example.points @ rotation.T + offset
    check(frames, example, points)
    # The head's middle lies at our origin, its face looks along +z, its top is up; metric formats
    # keep their unit.
    assert np.linalg.norm(points.mean(0)) < 0.25
    left, right, nose, top = points[5], points[6], points[0], points[7]
    across = (left - right) / np.linalg.norm(left - right)
    assert across[0] > 0.95 and nose[2] > max(left[2], right[2]) and top[1] > nose[1]
    if name in ("ava256", "nersemble"):
        np.testing.assert_allclose(
            np.linalg.norm(left - right), np.linalg.norm(POINTS[5] - POINTS[6]) / 0.373, rtol=1e-6
        )
    else:
        distance = frames.cameras.position.norm(dim=-1).median()
        focal = max(captures_of.FOCAL[0] / 96, captures_of.FOCAL[1] / 128)
        np.testing.assert_allclose(distance, 2.7 * focal / 4.2647, rtol=0.05)


def test_nersemble_benchmark_follows_the_tracked_head(tmp_path):
    example = captures_of.nersemble(tmp_path, tracked=True)
    frames = read(tmp_path, options=ReadOptions(flame=tmp_path / "flame.npz"))
    check(frames, example, FLAME_SCALE * example.points + FLAME_OFFSET)
    assert frames.expressions_of("037") == tuple(f"EXP-2-eyes/{i:05d}" for i in (1, 2, 3))
    assert [frames.camera_names[c] for c in frames.split("train").camera] == ["222200037"] * 3
    sequence = TrackedSequence.of(frames)
    assert sequence.kind == "sequence" and len(sequence) == 9
    for options in (
        ReadOptions(cameras=("7",)),
        ReadOptions(moments=("EXP-9",)),
        ReadOptions(subjects=("8",)),
    ):
        with pytest.raises(
            UserError, match="holds no images of these people, sequences and cameras"
        ):
            read(tmp_path, options=options)


def test_videos_show_the_frames_they_hold(tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    example = captures_of.nersemble(tmp_path, tracked=False)
    folder = tmp_path / "037/sequences/EXP-2-eyes"
    before = read(tmp_path)
    by_camera = {}
    for index in range(len(before)):
        by_camera.setdefault(before.camera_names[before.camera[index]], []).append(
            before.get(index)
        )
    for kind in ("images", "alpha_maps"):
        for serial, stills in by_camera.items():
            with av.open(str(folder / kind / f"cam_{serial}.mp4"), "w") as file:
                stream = file.add_stream("mpeg4", rate=73)
                stream.width, stream.height, stream.pix_fmt = *example.size, "yuv420p"
                stream.bit_rate = 8_000_000
                for still in stills:
                    pixels = still.rgb if kind == "images" else still.alpha.expand(3, -1, -1)
                    image = av.VideoFrame.from_ndarray(
                        pixels.permute(1, 2, 0).contiguous().numpy(), format="rgb24"
                    )
                    file.mux(stream.encode(image))
                file.mux(stream.encode())
        for still in (folder / kind).glob("*.png"):
            still.unlink()
    after = read(tmp_path)
    assert (
        len(after) == 9
        and after.has_masks
        and after.moments == tuple(f"EXP-2-eyes/{i:05d}" for i in range(3))
    )
    for index in (8, 0, 4):  # forward, back, forward
        serial, step = after.camera_names[after.camera[index]], int(after.moment[index])
        shown, still = after.get(index), by_camera[serial][step]
        assert (shown.rgb.int() - still.rgb.int()).abs().float().mean() < 6
        assert (shown.alpha.int() - still.alpha.int()).abs().float().mean() < 6


# --------------------------------------------------------------------------- masks, splits, options
def test_masks_of_every_kind(tmp_path):
    for name in ("insta", "flashavatar", "nerfblendshape", "vhap"):
        write, settings = SEQUENCES[name]
        write(tmp_path / name) if (tmp_path / name).mkdir() is None else None
        frames = read(tmp_path / name, options=ReadOptions(**settings))
        alpha = frames.get(0).alpha[0]
        assert frames.has_masks and int(alpha[32, 40]) > 250 and int(alpha[0, 0]) < 5
    share = (
        (read(tmp_path / "nerfblendshape", options=ReadOptions(test_frames=1)).get(0).alpha > 0)
        .float()
        .mean()
    )
    np.testing.assert_allclose(share, 40 * 40 / (80 * 64), atol=1e-6)


def test_one_person_of_the_published_tree_is_named(tmp_path):
    sequences_of.flashavatar(tmp_path)
    for folder in ("dataset", "metrical-tracker/output"):
        shutil.copytree(tmp_path / folder / "ana", tmp_path / folder / "ben")
    with pytest.raises(UserError, match="2 folders imgs and 2 .* name one person with `subjects`"):
        read(tmp_path, options=ReadOptions(test_frames=1))
    frames = read(tmp_path, options=ReadOptions(test_frames=1, subjects=("ben",)))
    assert len(frames) == 6 and all("/ben/" in frames.name(i) for i in range(6))


def test_splits_are_those_of_the_authors(tmp_path):
    assert [
        FORMATS[name].module.TEST_FRAMES for name in ("insta", "nerfblendshape", "flashavatar")
    ] == [350, 500, 500]
    for name in ("imavatar", "vhap"):
        (tmp_path / name).mkdir()
        SEQUENCES[name][0](tmp_path / name)
    clips = read(tmp_path / "imavatar")
    assert [clips.name(i)[:8] for i in range(6)] == ["MVI_1810"] * 4 + ["MVI_1812"] * 2
    assert clips.split("test").moments[4:] == ("MVI_1812/00001", "MVI_1812/00002")
    assert (
        len(
            read(tmp_path / "imavatar", options=ReadOptions(test_clips=("MVI_1810",))).split("test")
        )
        == 4
    )
    exported = read(tmp_path / "vhap")
    assert exported.splits == ("train", "val", "test")
    assert [len(exported.split(name)) for name in exported.splits] == [4, 4, 4]
    assert {int(c) for c in exported.split("val").camera} == {1}


def test_unions_of_exports_point_beside_themselves(tmp_path):
    (tmp_path / "one").mkdir()
    example = sequences_of.vhap(tmp_path / "one")
    (tmp_path / "UNION").mkdir()
    text = (tmp_path / "one/transforms.json").read_text()
    for folder in ("images", "fg_masks", "flame_param"):
        text = text.replace(f'"{folder}/', f'"../one/{folder}/')
    (tmp_path / "UNION/transforms.json").write_text(text)
    frames = read(tmp_path / "UNION", options=ReadOptions(flame=tmp_path / "one/flame.npz"))
    example.names = [f"one/{name}" for name in example.names]
    check(frames, example, FLAME_SCALE * example.points + FLAME_OFFSET)


def test_exports_of_one_camera_have_an_empty_validation_file(tmp_path):
    sequences_of.vhap(tmp_path)
    (tmp_path / "transforms_val.json").write_text('{"frames": []}')
    assert read(tmp_path).splits == ("train", "test")
    for name in ("train", "test"):
        (tmp_path / f"transforms_{name}.json").write_text('{"frames": []}')
    with pytest.raises(UserError, match="has no frames in transforms_train.json"):
        read(tmp_path, "vhap")


def test_scenes_of_nerf_have_a_file_per_split(tmp_path):
    example = captures_of.nerfstudio(tmp_path)
    content = json.loads((tmp_path / "transforms.json").read_text())
    angle = 2 * np.arctan(0.5 * 96 / content.pop("fl_x"))
    for key in ("fl_y", "cx", "cy", "w", "h"):
        content.pop(key)
    for split, frames in (("train", content["frames"][:4]), ("test", content["frames"][4:])):
        frames = [
            {**frame, "file_path": frame["file_path"].removesuffix(".png")} for frame in frames
        ]
        (tmp_path / f"transforms_{split}.json").write_text(
            json.dumps({"camera_angle_x": angle, "frames": frames})
        )
    (tmp_path / "transforms.json").unlink()
    frames = read(tmp_path)
    assert [len(frames.split(name)) for name in ("train", "test")] == [4, 2]
    assert sorted(frames.name(i) for i in range(6)) == sorted(example.names)
    k = frames.cameras.intrinsics[0].numpy()
    np.testing.assert_allclose([k[0, 0] * 96, k[1, 1] * 128], [210, 210])  # square pixels, centered
    np.testing.assert_allclose(k[:2, 2], 0.5)


def test_estimated_joints_are_said_to_be_estimates(tmp_path):
    sequences_of.vhap(tmp_path)
    notes = read(tmp_path).notes
    assert len(notes) == 1 and "estimated" in notes[0] and "`flame`" in notes[0]


def test_flame_models_as_their_authors_pickle_them(tmp_path):
    import pickle

    from scipy.sparse import csc_matrix

    example = sequences_of.vhap(tmp_path)
    model = dict(np.load(tmp_path / "flame.npz"))
    model["J_regressor"] = csc_matrix(model["J_regressor"])
    (tmp_path / "flame.pkl").write_bytes(pickle.dumps(model, protocol=2))
    frames = read(tmp_path, options=ReadOptions(flame=tmp_path / "flame.pkl"))
    check(frames, example, FLAME_SCALE * example.points + FLAME_OFFSET)


def test_scale_and_offset_replace_the_formats_own(tmp_path):
    example = sequences_of.insta(tmp_path)
    frames = read(tmp_path, options=ReadOptions(scale=2.0, offset=(0.1, 0.2, 0.3), test_frames=1))
    check(frames, example, 2.0 * example.points + [0.1, 0.2, 0.3])


def test_selection_by_name(tmp_path):
    captures_of.ava256(tmp_path)
    frames = read(tmp_path, options=ReadOptions(cameras=("401", "403"), moments=("EXP_smile",)))
    assert (
        len(frames) == 4
        and frames.subjects == ("ABC123",)
        and frames.camera_names == ("401", "403")
    )
    assert frames.moments == ("EXP_smile/000101", "EXP_smile/000102")
    with pytest.raises(UserError, match="no subject 'XYZ'|no capture"):
        read(tmp_path, options=ReadOptions(subjects=("XYZ",)))


def dot_errors(frames, example):
    """How far the images' dots, by their center of mass, lie from where the pinhole sees the
    points, in pixels."""
    errors = []
    for index in range(len(frames)):
        gray = frames.get(index).rgb.float().mean(0).numpy()
        for u, v in example.pixels[index]:
            x, y = int(u), int(v)
            others = np.abs(example.pixels[index] - (u, v)).max(1)
            if not (8 < u < 88 and 8 < v < 120) or (others[others > 0] < 12).any():
                continue  # cut off, or two dots that would pull on one another
            weight = gray[y - 5 : y + 6, x - 5 : x + 6] - 62
            rows, columns = np.mgrid[y - 5 : y + 6, x - 5 : x + 6] + 0.5
            center = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
            errors.append(np.abs(center - (u, v)).max())
    assert len(errors) > 5
    return max(errors)


def test_distorted_images_are_undistorted(tmp_path):
    bend = (-2.5, 3.0, 0.02, -0.015, 1.0)
    example = captures_of.facescape(tmp_path, bend)
    frames = read(tmp_path)
    assert "undistorted" in frames.notes[-1] and dot_errors(frames, example) < 0.25
    # the lens is worth noticing
    assert dot_errors(read(tmp_path, options=ReadOptions(lens="ignore")), example) > 0.5
    with pytest.raises(UserError, match="lens='undistort'"):
        read(tmp_path, options=ReadOptions(lens="refuse"))


def test_every_format_is_found_by_its_files(tmp_path):
    for name, write in [*((n, w) for n, (w, _) in SEQUENCES.items()), *CAPTURES.items()]:
        (tmp_path / name).mkdir()
        write(tmp_path / name)
        assert detect(open_source(tmp_path / name)).name == name
