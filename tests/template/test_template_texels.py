import os
import warnings

import numpy as np
import pytest
import torch

from gghead.template import load_template, texels
from gghead.template.mesh import Template
from gghead.template.texels import texel_maps
from gghead.torch_utils.errors import UserError

R = 48


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    texels._texels.cache_clear()
    yield tmp_path / "cache" / "gghead" / "texels"
    texels._texels.cache_clear()


def direct_evaluation(template: Template, values: np.ndarray, resolution: int) -> np.ndarray:
    """Find each texel's triangle by solving for barycentric weights against every triangle, [R, R,
    C]."""
    uv = template.uvs[template.uv_faces]
    matrix = np.concatenate([uv.transpose(0, 2, 1), np.ones((len(uv), 1, 3))], axis=1)
    inverse = np.linalg.inv(matrix)
    result = np.zeros((resolution, resolution, values.shape[1]))
    for i in range(resolution):
        for j in range(resolution):
            w = inverse @ np.array([(j + 0.5) / resolution, (i + 0.5) / resolution, 1.0])
            best = w.min(1).argmax()
            result[i, j] = w[best] @ values[template.faces[best]]
    return result


def test_position_and_blendshapes_are_exact_interpolations():
    head = load_template("head")
    maps = texel_maps(head, 24)
    assert maps.mask.all() and maps.resolution == 24
    np.testing.assert_allclose(
        maps.position.permute(1, 2, 0), direct_evaluation(head, head.vertices, 24), atol=1e-6
    )
    k = maps.blendshape_names.index("jawOpen")
    expected = direct_evaluation(head, head.blendshapes["jawOpen"], 24)
    np.testing.assert_allclose(maps.blendshapes[k].permute(1, 2, 0), expected, atol=1e-6)
    corners = torch.tensor(head.vertices[head.faces[maps.face_index]]).permute(2, 0, 1, 3)
    rebuilt = (maps.bary[..., None] * corners).sum(0)
    np.testing.assert_allclose(rebuilt, maps.position.permute(1, 2, 0), atol=1e-6)


@pytest.mark.parametrize("name", ["head", "sphere", "plane"])
@pytest.mark.parametrize("resolution", [16, 33, 80])
def test_every_texel_of_the_built_in_charts_is_valid(name, resolution):
    maps = texel_maps(load_template(name), resolution)
    assert maps.mask.all() and maps.mask.shape == (resolution, resolution)
    assert maps.position.dtype == torch.float32 and maps.region.dtype == torch.int64
    assert torch.isfinite(maps.position).all() and (maps.spacing > 0).all()


@pytest.mark.parametrize("name", ["head", "sphere", "plane"])
def test_frames_are_right_handed_and_orthonormal(name):
    maps = texel_maps(load_template(name), R)
    frame = maps.frame.permute(2, 3, 0, 1).double()
    identity = torch.eye(3, dtype=torch.float64).expand_as(frame)
    torch.testing.assert_close(frame.mT @ frame, identity, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        torch.linalg.det(frame), torch.ones(R, R, dtype=torch.float64), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(maps.frame[:, 2], maps.normal)


def test_tangent_runs_along_u_and_the_normal_points_out():
    maps = texel_maps(load_template("head"), R)
    center = maps.frame[:, :, R // 2 - 6, R // 2]  # the nose's bridge
    assert center[0, 0] > 0.9 and center[1, 1] > 0.7 and center[2, 2] > 0.7
    along = maps.position[:, :, 1:] - maps.position[:, :, :-1]
    tangent = (maps.frame[:, 0, :, 1:] + maps.frame[:, 0, :, :-1]) / 2
    assert ((along * tangent).sum(0) > 0).float().mean() > 0.995


def test_spacing_is_the_distance_between_neighbors():
    maps = texel_maps(load_template("plane"), 20)
    torch.testing.assert_close(maps.spacing, torch.full((2, 20, 20), 0.7 / 20), atol=1e-6, rtol=0)
    sphere = texel_maps(load_template("sphere"), 64)
    middle = sphere.spacing[:, 32, 10]
    torch.testing.assert_close(
        middle, torch.tensor([0.6 * np.pi / 64, 0.3 * np.pi / 64]), rtol=0.02, atol=0
    )
    assert sphere.spacing[0, 0].min() > 0.05 * sphere.spacing[0].median()  # the pole keeps a size
    head = texel_maps(load_template("head"), 64)
    step = (head.position[:, :, 1:] - head.position[:, :, :-1]).norm(dim=0)
    mean = (step[:, 1:] + step[:, :-1]) / 2
    floor = head.spacing[0].min()
    torch.testing.assert_close(
        head.spacing[0, :, 1:-1], mean.clamp_min(floor), atol=1e-6, rtol=1e-5
    )


def test_the_face_has_the_most_texels():
    maps = texel_maps(load_template("head"), 96)
    names = maps.region_names
    assert names[0] == "unknown" and not (maps.region == 0).any()
    share = {name: (maps.region == i).float().mean().item() for i, name in enumerate(names)}
    inside = sum(share[name] for name in ("face", "eyes", "lips", "brows", "mouth"))
    assert inside > 0.38 and inside > max(share["scalp"], share["neck"], share["ears"])
    assert min(share[name] for name in ("eyes", "lips", "brows", "mouth")) > 0.003
    torch.testing.assert_close(maps.region, maps.region.flip(-1))


def test_atlas_with_holes_has_a_mask_and_spacing_ignores_other_islands():
    vertices = np.array(
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5], [6, 5, 5], [5, 6, 5]], dtype=float
    )
    uvs = np.array([[0, 0], [0.5, 0], [0, 1], [0.5, 0], [1, 0], [0.5, 1]], dtype=float)
    faces = np.array([[0, 2, 1], [3, 5, 4]])
    maps = texel_maps(Template("two", vertices, faces, uvs, faces.copy()), 16)
    assert 0.4 < maps.mask.float().mean() < 0.6
    assert (maps.position[:, ~maps.mask] == 0).all() and (maps.face_index[~maps.mask] == -1).all()
    assert maps.region_names == ("unknown",) and maps.blendshapes.shape == (0, 3, 16, 16)
    torch.testing.assert_close(
        maps.spacing[0, maps.mask], torch.full((int(maps.mask.sum()),), 2 / 16)
    )
    torch.testing.assert_close(
        maps.spacing[1, maps.mask], torch.full((int(maps.mask.sum()),), 1 / 16)
    )


def test_second_call_comes_from_memory_and_a_new_process_from_disk(own_cache, monkeypatch):
    head = load_template("head")
    first = texel_maps(head, R)
    assert texel_maps(head, R) is first
    assert len(list(own_cache.iterdir())) == 1
    texels._texels.cache_clear()
    monkeypatch.setattr(
        texels, "bake", lambda *_: pytest.fail("baked although the disk cache has it")
    )
    second = texel_maps(head, R)
    for name in texels._ARRAYS:
        torch.testing.assert_close(getattr(second, name), getattr(first, name), atol=0, rtol=0)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other"])
def test_damaged_cache_is_rebuilt_with_one_warning(own_cache, damage):
    head = load_template("head")
    good = texel_maps(head, R)
    path = texels.cache_path(head, R)
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        data = data[: len(data) // 2]
    elif damage == "flipped":
        data[2000] ^= 0xFF
    elif damage == "empty":
        data = b""
    else:
        texel_maps(head, R // 2)
        data = texels.cache_path(head, R // 2).read_bytes()
    path.write_bytes(bytes(data))
    texels._texels.cache_clear()
    with pytest.warns(UserWarning, match="damaged") as caught:
        again = texel_maps(head, R)
    assert len(caught) == 1
    torch.testing.assert_close(again.position, good.position, atol=0, rtol=0)
    texels._texels.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        texel_maps(head, R)
    assert sorted(p.suffix for p in own_cache.iterdir()) == [".npz"] * len(
        list(own_cache.iterdir())
    )


def test_unwritable_cache_is_said_and_survived(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "file"))
    with pytest.warns(UserWarning, match="could not be cached"):
        maps = texel_maps(load_template("plane"), 8)
    assert maps.mask.all()


@pytest.mark.parametrize("resolution", [0, -4, 2.5, True, 100000])
def test_wrong_resolutions_are_refused(resolution):
    with pytest.raises(UserError, match="Texel resolution"):
        texel_maps(load_template("plane"), resolution)


def test_maps_move_between_devices():
    maps = texel_maps(load_template("plane"), 8).to("cpu")
    assert maps.position.device.type == "cpu" and maps.region_names == ("unknown",)
