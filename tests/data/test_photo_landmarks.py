"""gghead.data.photos: where landmarks come from."""

import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from helpers.places import SHARED
from PIL import Image
from scipy import ndimage

from gghead.data.photos import pose
from gghead.data.photos.landmarks import Face, JsonLandmarks, landmark_model, largest_first
from gghead.data.photos.mediapipe_faces import (
    MediapipeLandmarks,
    TaskLandmarks,
    _Box,
    _Finder,
    _tiles,
    _upright,
    measure,
    without_notes,
)
from gghead.data.photos.photo import make_landmarker
from gghead.torch_utils.errors import UserError

PHOTOS = SHARED / "photos"
FACE = np.random.default_rng(0).uniform(10, 90, (68, 2)).round(2)
needs_mediapipe = pytest.mark.skipif(
    importlib.util.find_spec("mediapipe") is None,
    reason="mediapipe is not installed (gghead[prep])",
)


def write(path: Path, files, scheme="ibug68") -> Path:
    path.write_text(json.dumps({"scheme": scheme, "files": files}))
    return path


def test_landmarks_of_a_file(tmp_path):
    small, large = FACE.tolist(), (2 * FACE).tolist()
    reader = JsonLandmarks(
        write(
            tmp_path / "l.json", {"a.jpg": small, "b.jpg": [small, large], "c.jpg": None, "d": []}
        )
    )
    one, two = reader.faces(None, "a.jpg", True), reader.faces(None, "b.jpg", True)
    assert len(one) == 1 and one[0].scheme == "ibug68"
    np.testing.assert_array_equal(one[0].points, FACE)
    assert [round(face.size / one[0].size) for face in two] == [2, 1]  # the largest first
    assert not reader.faces(None, "c.jpg", True) and not reader.faces(None, "d", True)
    assert not reader.faces(None, "unknown.jpg", True)
    assert isinstance(make_landmarker(str(tmp_path / "l.json")), JsonLandmarks)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not valid JSON"),
        ("[]", "has no 'files'"),
        ('{"files": {}}', "has the scheme None; use one of mediapipe478, ibug68"),
        ('{"scheme": [], "files": {}}', r"has the scheme \[\]; use one of mediapipe478, ibug68"),
        (
            '{"scheme": "ibug68", "files": {"a": [[1, 2]]}}',
            r"of a in .* shape \[1, 2\], but ibug68 has 68",
        ),
        ('{"scheme": "ibug68", "files": {"a": [["x", 2]]}}', r"of a in .* are no list of \[x, y\]"),
        ('{"scheme": "ibug68", "files": {"a": {"x": 1}}}', r"of a in .* are no list of \[x, y\]"),
        (
            json.dumps({"scheme": "ibug68", "files": {"a": [[float("nan"), 1]] * 68}}),
            "68 finite points",
        ),
    ],
)
def test_broken_landmark_files(tmp_path, content, sentence):
    (tmp_path / "l.json").write_text(content)
    with pytest.raises(UserError, match=sentence):
        JsonLandmarks(tmp_path / "l.json")


def test_468_points_without_irises_will_do(tmp_path):
    points = np.random.default_rng(1).uniform(0, 9, (468, 2)).tolist()
    assert JsonLandmarks(write(tmp_path / "l.json", {"a": points}, "mediapipe478")).faces(
        None, "a", False
    )


def test_missing_files_and_unknown_names(tmp_path):
    for name, sentence in (
        (str(tmp_path / "no.json"), "no.json cannot be read"),
        (str(tmp_path / "no.task"), "no.task does not exist; give the path of a downloaded"),
        ("dlib", "`landmarker=dlib` is unknown; use mediapipe"),
    ):
        with pytest.raises(UserError, match=sentence):
            make_landmarker(name)


def test_without_mediapipe_there_is_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    (tmp_path / "face_landmarker.task").write_bytes(b"")
    for make in (MediapipeLandmarks, lambda: TaskLandmarks(tmp_path / "face_landmarker.task")):
        with pytest.raises(UserError, match=r"install gghead\[prep\].*`landmarker=FILE.json`"):
            make()


def test_notes_of_the_start_are_left_out_and_errors_kept(capfd):
    lines = [
        "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        (
            "W0000 00:00:1795827853.904017   30086 inference_feedback_manager.cc:114] Feedback"
            " manager needs"
        ),
        "I0000 00:00:1795827853.904017   30086 gl_context.cc:344] GL version: 3.2",
        (
            "E0000 00:00:1795827853.904017   30086 calculator_graph.cc:853] INTERNAL: the file is"
            " damaged"
        ),
        "something that nobody knows",
    ]
    with pytest.raises(KeyError), without_notes():
        os.write(2, "\n".join(lines).encode() + b"\n")
        raise KeyError
    assert capfd.readouterr().err.splitlines() == lines[-2:]
    os.write(2, b"W0000 00:00:1.0 1 a.cc:1] afterwards nothing is held back\n")
    assert "afterwards" in capfd.readouterr().err


@needs_mediapipe
def test_mediapipe_starts_without_a_word():
    code = (
        "import numpy; from gghead.data.photos.mattes import SelfieMatte\n"
        "from gghead.data.photos.mediapipe_faces import MediapipeLandmarks\n"
        "MediapipeLandmarks().faces(numpy.zeros((300, 300, 3), numpy.uint8), 'x', False)\n"
        "SelfieMatte().alpha(numpy.zeros((64, 64, 3), numpy.uint8), 'x', None, (64, 64))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_mediapipe_without_solutions_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", types.ModuleType("mediapipe"))
    with pytest.raises(
        UserError, match="no mediapipe.solutions any more; install mediapipe==0.10.14"
    ):
        MediapipeLandmarks()


def test_equal_faces_have_a_fixed_order():
    faces = [Face(FACE + shift, "ibug68") for shift in (30, 0, 60)]
    lefts = [face.box[0] for face in largest_first(faces)]
    assert lefts == sorted(lefts)


@pytest.mark.parametrize(("width", "height"), [(1000, 700), (300, 1200), (640, 640)])
def test_tiles_cover_the_image_and_overlap(width, height):
    for level in range(3):
        covered = np.zeros((height, width), int)
        for left, top, wide, high in _tiles(width, height, level):
            assert left >= 0 and top >= 0 and left + wide <= width and top + high <= height
            covered[top : top + high, left : left + wide] += 1
        assert covered.min() >= 1


@pytest.mark.parametrize("side", [60, 300, 1500])  # enlarged, shrunk, and averaged before
def test_upright_crops_know_their_place(side):
    box = _Box(700 - side / 2, 650 - side / 2, side, side, angle=0.5, score=1.0)
    target = np.array([700 + 0.3 * side, 650 - 0.2 * side])
    y, x = np.indices((1300, 1400)) + 0.5
    photo = np.exp(-((x - target[0]) ** 2 + (y - target[1]) ** 2) / (2 * (side / 20) ** 2))
    crop, to_photo = _upright(np.repeat((250 * photo)[..., None], 3, 2).astype(np.uint8), box)
    weight = np.where(crop[..., 0] > 80, crop[..., 0], 0).astype(float)
    v, u = np.indices(weight.shape) + 0.5
    found = to_photo @ [(u * weight).sum() / weight.sum(), (v * weight).sum() / weight.sum(), 1]
    np.testing.assert_allclose(found, target, atol=0.01 * side)


def frontal_face():  # [478, 2], fills the unit square
    model = landmark_model("mediapipe478")
    face = np.zeros((478, 2))
    face[model.index] = pose.project(np.diag([1.0, -1.0, -1.0]), model.mean)
    corner = face[model.index].min(0)
    face[[i for i in range(478) if i not in set(model.index.tolist())]] = face[model.index].mean(0)
    return (face - corner) / (face - corner).max(0)


def bright_patches(image):
    """Corners and sizes of the bright patches, divided by the image's size: [(low, size)]."""
    shape = np.array(image.shape[1::-1])
    return [
        (
            np.array([columns.start, rows.start]) / shape,
            np.array([columns.stop - columns.start, rows.stop - rows.start]) / shape,
        )
        for rows, columns in ndimage.find_objects(ndimage.label(image[..., 0] > 128)[0])
    ]


def as_mesh(points):
    return [types.SimpleNamespace(x=x, y=y) for x, y in points]


def fake_tasks(monkeypatch, usable=True):
    """A stand-in for newer mediapipe: its landmarker sees a frontal face in every bright patch."""
    face = frontal_face()

    def detect(image):
        found = bright_patches(image.data)
        return types.SimpleNamespace(
            face_landmarks=[as_mesh(low + face * size) for low, size in found]
        )

    def create(options):
        if not usable:
            raise RuntimeError("bad model")
        return types.SimpleNamespace(detect=detect)

    python = types.ModuleType("mediapipe.tasks.python")
    python.BaseOptions = types.SimpleNamespace
    python.vision = types.SimpleNamespace(
        FaceLandmarkerOptions=types.SimpleNamespace,
        FaceLandmarker=types.SimpleNamespace(create_from_options=create),
    )
    tasks, package = types.ModuleType("mediapipe.tasks"), types.ModuleType("mediapipe")
    tasks.python, package.tasks = python, tasks
    package.ImageFormat = types.SimpleNamespace(SRGB=1)
    package.Image = lambda image_format, data: types.SimpleNamespace(data=data)
    for name, module in (
        ("mediapipe", package),
        ("mediapipe.tasks", tasks),
        ("mediapipe.tasks.python", python),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    return face


def fake_solutions(monkeypatch):
    """A stand-in for mediapipe 0.10.14. Like the real networks, its detectors miss faces that are
    small beside the image and those that reach to its border."""
    face = frontal_face()

    def detect(image):
        detections = []
        for low, size in bright_patches(image):
            if size.max() > 1 / 8 and low.min() > 0.04 and (low + size).max() < 0.96:
                eyes = low + size * [[0.3, 0.4], [0.7, 0.4]]
                place = types.SimpleNamespace(
                    relative_bounding_box=types.SimpleNamespace(
                        xmin=low[0], ymin=low[1], width=size[0], height=size[1]
                    ),
                    relative_keypoints=as_mesh(eyes),
                )
                detections.append(types.SimpleNamespace(location_data=place, score=[0.9]))
        return types.SimpleNamespace(detections=detections or None)

    def mesh(image):
        found = [as_mesh(low + face * size) for low, size in bright_patches(image)]
        return types.SimpleNamespace(
            multi_face_landmarks=[types.SimpleNamespace(landmark=points) for points in found]
        )

    package = types.ModuleType("mediapipe")
    package.solutions = types.SimpleNamespace(
        face_detection=types.SimpleNamespace(
            FaceDetection=lambda **options: types.SimpleNamespace(process=detect)
        ),
        face_mesh=types.SimpleNamespace(
            FaceMesh=lambda **options: types.SimpleNamespace(process=mesh)
        ),
    )
    monkeypatch.setitem(sys.modules, "mediapipe", package)
    return face


@pytest.mark.parametrize(
    ("photo_size", "corner", "size"),
    [
        ((700, 1100), (600, 300), (200, 240)),
        ((700, 1100), (950, 580), (50, 40)),  # a twentieth of the width: seen in a tile
        ((200, 200), (4, 4), (192, 192)),  # it fills the image: seen in a frame
    ],
)
def test_a_face_is_found_and_measured_wherever_it_stands(photo_size, corner, size, monkeypatch):
    face = fake_solutions(monkeypatch)
    photo = np.zeros((*photo_size, 3), np.uint8)
    photo[corner[1] : corner[1] + size[1], corner[0] : corner[0] + size[0]] = 255
    rounds = _Finder(sys.modules["mediapipe"].solutions).rounds(photo)
    (box,) = next(boxes for boxes in rounds if boxes)
    np.testing.assert_allclose([box.left, box.top, box.width, box.height], [*corner, *size], atol=2)
    assert abs(box.angle) < 0.01
    (found,) = MediapipeLandmarks().faces(photo, "x", False)
    np.testing.assert_allclose(found.points, corner + face * size, atol=0.02 * max(size))
    assert (found.scheme, found.score) == ("mediapipe478", 0.9)


def test_every_face_is_found_once_the_largest_first(monkeypatch):
    fake_solutions(monkeypatch)
    photo = np.zeros((700, 1100, 3), np.uint8)
    assert MediapipeLandmarks().faces(photo, "x", True) == []
    photo[60:210, 90:240] = photo[300:500, 500:700] = 255
    found = MediapipeLandmarks().faces(photo, "x", True)
    assert [round(face.box[0], -1) for face in found] == [500, 90]
    (largest,) = MediapipeLandmarks().faces(photo, "x", False)
    np.testing.assert_allclose(largest.points, found[0].points, atol=2)


@pytest.mark.parametrize("meshes_of_mirror_image", [[], [frontal_face() * [1, 0.5] + [0, 0.25]]])
def test_what_crop_and_mirror_image_do_not_both_show_is_no_face(meshes_of_mirror_image):
    box, photo = _Box(20, 20, 60, 60, 0.0, 1.0), np.zeros((100, 100, 3), np.uint8)
    assert measure(photo, box, lambda crop: [frontal_face()]) is not None
    answers = iter([[frontal_face()], meshes_of_mirror_image])
    assert measure(photo, box, lambda crop: next(answers)) is None


def test_a_task_file_works_through_the_tasks_api(tmp_path, monkeypatch):
    face = fake_tasks(monkeypatch)
    (tmp_path / "face_landmarker.task").write_bytes(b"model")
    landmarker = make_landmarker(str(tmp_path / "face_landmarker.task"))
    photo = np.zeros((1500, 2600, 3), np.uint8)
    photo[400:720, 1800:2080] = 255
    (found,) = landmarker.faces(photo, "x", True)
    np.testing.assert_allclose(found.points, [1800, 400] + face * [280, 320], atol=4)
    assert landmarker.faces(np.zeros((50, 50, 3), np.uint8), "x", True) == []


def test_a_broken_task_file_is_named(tmp_path, monkeypatch):
    fake_tasks(monkeypatch, usable=False)
    (tmp_path / "other.task").write_bytes(b"model")
    with pytest.raises(UserError, match=r"other.task is no face_landmarker.task .* \(bad model\)"):
        TaskLandmarks(tmp_path / "other.task")


@pytest.fixture(scope="module")
def landmarker():
    return MediapipeLandmarks()


@needs_mediapipe
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="../shared/data/photos is not here")
def test_precision_does_not_depend_on_where_the_face_stands(landmarker):
    photo = Image.open(PHOTOS / "images" / "0002.jpg").convert("RGB")
    (face,) = landmarker.faces(np.asarray(photo), "x", False)
    for side in (256, 80):
        wall = Image.new("RGB", (2400, 1600), (90, 100, 110))
        wall.paste(photo.resize((side, side), Image.Resampling.LANCZOS), (1900, 1200))
        (small,) = landmarker.faces(np.asarray(wall), "x", False)
        error = (small.points - [1900, 1200]) * (512 / side) - face.points
        assert np.sqrt((error**2).sum(1).mean()) < 0.015 * 512
    turned = np.ascontiguousarray(np.rot90(np.asarray(photo.resize((300, 300)))))
    assert landmarker.faces(turned, "x", True), "a face on its side is found as well"


@needs_mediapipe
def test_no_face_in_noise(landmarker):
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    assert landmarker.faces(noise, "x", True) == []
