import numpy as np
import pytest

from gghead.template import load_obj, load_template, save_obj
from gghead.template.mesh import Template
from gghead.template.rig import eye_plane, lip_plane
from gghead.torch_utils.errors import UserError

ARKIT = """
browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff
cheekSquintLeft cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeSquintLeft eyeSquintRight
eyeWideLeft eyeWideRight jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft
mouthDimpleRight mouthFrownLeft mouthFrownRight mouthFunnel mouthLeft mouthLowerDownLeft
mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker mouthRight mouthRollLower
mouthRollUpper mouthShrugLower mouthSmileLeft mouthSmileRight mouthStretchLeft mouthStretchRight
mouthUpperUpLeft mouthUpperUpRight noseSneerLeft noseSneerRight
""".split()
FLIP = np.array([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def head() -> Template:
    return load_template("head")


def triangle_areas(points, faces):  # signed in 2D
    a, b, c = (points[faces[:, i]] for i in range(3))
    return 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])


def test_head_size_and_proportions(head):
    assert 4500 < len(head.vertices) < 6500
    low, high = head.vertices.min(0), head.vertices.max(0)
    assert high[1] == pytest.approx(0.396, abs=0.01) and low[1] < -0.44
    marks = head.landmarks
    np.testing.assert_allclose(marks["pupilLeft"], [0.084, 0.0815, 0.204], atol=0.004)
    np.testing.assert_allclose(marks["noseTip"], [0.0, 0.0, 0.307], atol=0.004)
    height = marks["crown"][1] - marks["chin"][1] + 0.03
    assert (marks["crown"][1] - marks["pupilLeft"][1]) / height == pytest.approx(0.5, abs=0.04)
    skull = head.vertices[(head.vertices[:, 1] > 0.15)]
    assert np.ptp(skull[:, 2]) / np.ptp(skull[:, 0]) == pytest.approx(1.28, abs=0.08)
    assert marks["noseBase"][1] < marks["earLeft"][1] < marks["browMiddleLeft"][1]


def test_landmarks_lie_on_the_surface_or_inside_the_eye(head):
    for name, point in head.landmarks.items():
        distance = np.linalg.norm(head.vertices - point, axis=1).min()
        assert distance < (0.04 if name.startswith(("eyeCentre", "ear")) else 0.012), name


def test_every_mirrored_part_is_exactly_symmetric(head):
    mirror = head.mirror_index
    np.testing.assert_array_equal(mirror[mirror], np.arange(len(mirror)))
    np.testing.assert_array_equal(head.vertices[mirror] * FLIP, head.vertices)
    mirrored = {tuple(sorted(face)) for face in mirror[head.faces].tolist()}
    assert mirrored == {tuple(sorted(face)) for face in head.faces.tolist()}
    for weight in head.regions.values():
        np.testing.assert_allclose(weight[mirror], weight, atol=1e-9)
    for name, point in head.landmarks.items():
        if name.endswith("Left"):
            np.testing.assert_array_equal(
                head.landmarks[name.removesuffix("Left") + "Right"], point * FLIP
            )


def test_chart_covers_the_unit_square_once_without_flips(head):
    # counter-clockwise in space is clockwise with v down
    areas = -triangle_areas(head.uvs, head.uv_faces)
    assert areas.min() > 0 or areas.max() < 0
    assert np.abs(areas).sum() == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_array_equal([head.uvs.min(0), head.uvs.max(0)], [[0, 0], [1, 1]])


def test_mesh_is_a_disk_with_proper_triangles_facing_outwards(head):
    corners = head.vertices[head.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.linalg.norm(normals, axis=1).min() > 1e-7
    edges = np.sort(
        np.concatenate([head.faces[:, [0, 1]], head.faces[:, [1, 2]], head.faces[:, [2, 0]]]),
        axis=1,
    )
    unique, count = np.unique(edges, axis=0, return_counts=True)
    assert count.max() == 2
    rim = head.vertices[np.unique(unique[count == 1])]
    assert rim[:, 1].max() < -0.3  # the only border is the one over the shoulders
    assert len(head.vertices) - len(unique) + len(head.faces) == 1  # Euler characteristic of a disk
    outward = head.vertices - np.array([0.0, 0.05, -0.03])
    share = ((head.vertex_normals * outward).sum(1) > 0)[head.vertices[:, 1] > 0.1].mean()
    assert share > 0.98


def test_normals_do_not_depend_on_how_quads_are_split():
    grid = load_template("plane")
    np.testing.assert_allclose(
        grid.vertex_normals, np.tile([0.0, 0.0, 1.0], (len(grid.vertices), 1)), atol=1e-12
    )
    sphere = load_template("sphere")
    np.testing.assert_allclose(sphere.vertex_normals, sphere.vertices / 0.3, atol=5e-3)


def test_regions_are_soft_weights_that_cover_the_head(head):
    assert {"face", "eyes", "lips", "ears", "scalp", "neck", "brows", "mouth"} <= set(head.regions)
    for name, weight in head.regions.items():
        assert 0.0 <= weight.min() and weight.max() <= 1.0 and weight.max() > 0.9, name
    total = sum(head.regions[name] for name in ("face", "ears", "scalp", "neck"))
    np.testing.assert_allclose(total, 1.0, atol=1e-5)
    vertices = head.vertices
    eyes, lips, scalp = (vertices[head.regions[name] > 0.5] for name in ("eyes", "lips", "scalp"))
    assert (np.abs(eyes[:, 0]) > 0.04).all() and (np.abs(eyes[:, 1] - 0.083) < 0.025).all()
    assert (np.abs(lips[:, 0]) < 0.08).all() and (np.abs(lips[:, 1] + 0.097) < 0.03).all()
    assert scalp[:, 1].max() == vertices[:, 1].max() and (scalp[:, 2] < 0.24).all()


def test_blendshapes_are_named_local_and_mirrored(head):
    assert set(head.blendshapes) == set(ARKIT) and len(ARKIT) >= 20
    for name, offsets in head.blendshapes.items():
        length = np.linalg.norm(offsets, axis=1)
        assert 0.003 < length.max() < 0.12, name
        assert (length > 1e-4).mean() < 0.6, name
        untouched = (
            (head.vertices[:, 2] < -0.15)
            | (head.vertices[:, 1] > 0.3)
            | (head.vertices[:, 1] < -0.36)
        )
        assert length[untouched].max() == 0, name
        mirrored = offsets[head.mirror_index] * FLIP
        partner = name.replace("Left", "#").replace("Right", "Left").replace("#", "Right")
        np.testing.assert_allclose(head.blendshapes[partner], mirrored, atol=2e-6, err_msg=name)
        if name.endswith("Left") and name not in ("jawLeft", "mouthLeft"):
            weight = length**2
            assert (head.vertices[:, 0] * weight).sum() / weight.sum() > 0.02, name


def test_expressions_do_what_their_names_say(head):
    def moved(name, landmark):
        vertex = np.linalg.norm(head.vertices - head.landmarks[landmark], axis=1).argmin()
        return head.blendshapes[name][vertex]

    assert moved("jawOpen", "chin")[1] < -0.04
    assert abs(moved("jawOpen", "upperLip")[1]) < 0.004
    assert (
        moved("mouthSmileLeft", "mouthCornerLeft")[1]
        > 0.008
        > abs(moved("mouthSmileLeft", "mouthCornerRight")[1])
    )
    assert moved("mouthFrownRight", "mouthCornerRight")[1] < -0.008
    assert moved("browInnerUp", "browInnerLeft")[1] > 0.008
    assert moved("browDownLeft", "browInnerLeft")[1] < -0.005
    assert moved("jawLeft", "chin")[0] > 0.01
    assert moved("mouthPucker", "mouthCornerLeft")[0] < -0.005


def test_blink_closes_the_eye(head):
    s, t, _ = eye_plane(head.vertices)
    opening = (np.abs(s) < 0.8) & (np.abs(t) < 0.8) & (head.vertices[:, 2] > 0.15)
    left = opening & (head.vertices[:, 0] > 0)
    column = left & (np.abs(s) < 0.25)
    before = np.ptp(head.vertices[column, 1])
    after = np.ptp(head.pose({"eyeBlinkLeft": 1.0})[column, 1])
    assert after < 0.35 * before
    assert not head.blendshapes["eyeBlinkLeft"][opening & (head.vertices[:, 0] < 0)].any()


def test_lip_plane_follows_the_lips(head):
    s, t = lip_plane(
        np.stack(
            [head.landmarks["upperLip"], head.landmarks["lowerLip"], head.landmarks["mouthCentre"]]
        )
    )
    assert t[0] == pytest.approx(1.0, abs=0.35) and t[1] == pytest.approx(-1.0, abs=0.2)
    assert t[2] == pytest.approx(0.0, abs=0.1)
    np.testing.assert_array_equal(s, 0.0)


def test_posed_refuses_unknown_names(head):
    with pytest.raises(UserError, match="no blendshape 'smile'"):
        head.pose({"smile": 1.0})


def test_content_hash_ignores_the_name_and_sees_a_vertex():
    plane = load_template("plane")
    same = Template("other", plane.vertices, plane.faces, plane.uvs, plane.uv_faces)
    moved = plane.vertices.copy()
    moved[3, 2] += 1e-6
    assert same == plane and hash(same) == hash(plane)
    assert Template("plane", moved, plane.faces, plane.uvs, plane.uv_faces) != plane


def test_obj_round_trip(head, tmp_path):
    save_obj(head, tmp_path / "copy.obj")
    copy = load_template(tmp_path / "copy.obj")
    np.testing.assert_allclose(copy.vertices, head.vertices, rtol=0, atol=1e-9)
    np.testing.assert_allclose(copy.uvs, head.uvs, atol=1e-9)
    np.testing.assert_array_equal(copy.faces, head.faces)
    np.testing.assert_array_equal(copy.uv_faces, head.uv_faces)
    assert copy.name == "copy" and not copy.regions and not copy.blendshapes
    with pytest.raises(ValueError, match="must be"):
        save_obj(head, tmp_path / "bad.obj", vertices=np.zeros((3, 3)))
    with pytest.raises(UserError, match="could not be written"):
        save_obj(head, tmp_path / "nowhere" / "copy.obj")
    assert [path.name for path in tmp_path.iterdir()] == ["copy.obj"]


def test_obj_polygons_negative_indices_and_normals(tmp_path):
    text = """# a square and a triangle
v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0
vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nvn 0 0 1
usemtl skin
f -4/-4/1 -3/-3/1 -2/-2/1 -1/-1/1
"""
    (tmp_path / "quad.obj").write_text(text)
    mesh = load_obj(tmp_path / "quad.obj")
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3]])
    np.testing.assert_array_equal(mesh.uvs, [[0, 1], [1, 1], [1, 0], [0, 0]])  # v turned downwards


SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nvt 0 0\nvt 1 0\nvt 1 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SQUARE + "f 1 2 3\n", "line 7: faces without texture coordinates"),
        (SQUARE + "f 1/1 2/2 9/3\n", "vertex index 9 is out of range"),
        (SQUARE + "f 1/1 2/2 0/3\n", "vertex index 0 is out of range"),
        (SQUARE + "f 1/1 2/2\n", "a face needs three corners"),
        (SQUARE + "f a/b c/d e/f\n", "line 7"),
        (SQUARE, "has no faces"),
        ("v 0 0\n" + SQUARE, "line 1"),
        (SQUARE.replace("vt 1 1", "vt 3 1") + "f 1/1 2/2 3/3\n", "outside 0..1"),
        (SQUARE.replace("v 1 1 0", "v nan 1 0") + "f 1/1 2/2 3/3\n", "finite"),
    ],
)
def test_obj_faults_end_in_one_sentence(tmp_path, text, message):
    path = tmp_path / "broken.obj"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_template(path)
    assert "\n" not in str(error.value) and "broken" in str(error.value)


def test_unknown_template_names_are_refused(tmp_path):
    with pytest.raises(UserError, match="'head', 'sphere', 'plane'"):
        load_template("face")
    with pytest.raises(UserError, match="cannot be read"):
        load_template(tmp_path / "missing.obj")
