import os
import struct

import pytest
import torch

from gghead import ply
from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.rendering import render
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import generator


def head(n: int = 200, degree: int | None = None, seed: int = 0) -> Gaussians:
    rng = generator(seed, "head")
    opacities = torch.rand(n, generator=rng)
    opacities[:4] = torch.tensor([0.0, 1.0, 0.001, 0.9999])[:n]
    return Gaussians(
        means=0.25 * torch.randn(n, 3, generator=rng),
        quats=3 * torch.randn(n, 4, generator=rng),
        scales=0.005 + 0.05 * torch.rand(n, 3, generator=rng),
        opacities=opacities,
        colors=torch.rand(n, *([3] if degree is None else [(degree + 1) ** 2, 3]), generator=rng),
        sh_degree=degree,
    )


def picture(gaussians: Gaussians) -> torch.Tensor:
    out = render(gaussians, Cameras.orbit(torch.tensor([0.0, 1.0])), 32, background=1.0)
    return torch.cat([out.color, out.alpha, out.depth], -3)


@pytest.mark.parametrize("degree", [None, 0, 1, 2, 3])
def test_a_saved_head_renders_as_before(tmp_path, degree):
    before = head(degree=degree)
    before.save_ply(tmp_path / "new folder" / "head.ply")
    after = Gaussians.load_ply(tmp_path / "new folder" / "head.ply")
    assert after.sh_degree == (degree or None)
    assert (picture(before) - picture(after)).abs().max() <= 1e-4
    assert torch.allclose(after.quats.norm(dim=-1), torch.ones(200))


def test_the_layout_is_that_of_3dgs(tmp_path):
    gaussians = head(n=5, degree=1)
    gaussians.save_ply(tmp_path / "a.ply")
    header, data = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    names = [line.split()[-1] for line in header.decode().splitlines() if line.startswith("property float ")]
    assert names == [
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
        *(f"f_rest_{i}" for i in range(9)),
        *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    ]
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 5\n")
    assert len(data) == 5 * len(names) * 4
    third = dict(zip(names, struct.unpack("<26f", data[2 * 104 : 3 * 104]), strict=True))
    assert third["y"] == pytest.approx(gaussians.means[2, 1].item())
    assert third["f_dc_1"] == pytest.approx(gaussians.colors[2, 0, 1].item())
    assert third["f_rest_4"] == pytest.approx(gaussians.colors[2, 2, 1].item())  # green, second of three coefficients
    assert third["scale_2"] == pytest.approx(gaussians.scales[2, 2].log().item(), rel=1e-5)
    assert third["opacity"] == pytest.approx(torch.logit(gaussians.opacities[2].double()).item(), rel=1e-4)
    assert third["nx"] == 0


def test_properties_in_any_order_and_of_other_types(tmp_path):
    before = head(n=3)
    before.save_ply(tmp_path / "a.ply")
    header, data = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    lines = header.decode().splitlines()
    rows = [struct.unpack("<17f", data[i * 68 : (i + 1) * 68]) for i in range(3)]
    kept = [i for i in reversed(range(17)) if not lines[3 + i].split()[-1].startswith("n")]
    text = [*lines[:2], "comment reversed", lines[2], "property uchar label"]
    text += [lines[3 + i].replace("float", "double") for i in kept] + [
        "element face 0",
        "property list uchar int vertices",
    ]
    body = b"".join(struct.pack("<B14d", 7, *(row[i] for i in kept)) for row in rows)
    (tmp_path / "b.ply").write_bytes(("\n".join(text) + "\nend_header\n").encode() + body)
    after, same = Gaussians.load_ply(tmp_path / "a.ply"), Gaussians.load_ply(tmp_path / "b.ply")
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert torch.equal(getattr(after, name), getattr(same, name)), name


def test_a_batch_of_one_is_saved_and_several_are_refused(tmp_path):
    one = head()
    one[None].save_ply(tmp_path / "a.ply")
    one.save_ply(tmp_path / "b.ply")
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()
    pair = Gaussians(*(torch.stack([x, x]) for x in (one.means, one.quats, one.scales, one.opacities, one.colors)))
    with pytest.raises(UserError, match="one head"):
        pair.save_ply(tmp_path / "c.ply")
    assert not (tmp_path / "c.ply").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.replace(b"ply\n", b"obj\n", 1), "not a .ply file"),
        (lambda d: b"", "not a .ply file"),
        (lambda d: d.replace(b"binary_little_endian", b"ascii"), "binary little-endian"),
        (lambda d: d.replace(b"binary_little_endian", b"binary_big_endian"), "binary little-endian"),
        (lambda d: d.replace(b"element vertex", b"element points"), "element vertex"),
        (lambda d: d.replace(b"element vertex 200", b"element vertex -1"), "cannot be read"),
        (lambda d: d.replace(b"float x", b"half x"), "cannot be read"),
        (lambda d: d.replace(b"float y", b"float x"), "cannot be read"),
        (lambda d: d.replace(b"rot_3", b"rot_4"), "no property 'rot_3'"),
        (lambda d: d.replace(b"float nx", b"float f_rest_0"), "1 f_rest properties"),
        (lambda d: d[:-1], "cut off"),
        (lambda d: d[:-4] + struct.pack("<f", float("nan")), "not finite"),
    ],
)
def test_other_files_are_refused_in_a_sentence(tmp_path, change, sentence):
    path = tmp_path / "a.ply"
    head().save_ply(path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=sentence) as caught:
        ply.load(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="absent.ply cannot be read"):
        ply.load(tmp_path / "absent.ply")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.ply"
    head().save_ply(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        head(seed=1).save_ply(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.ply"]
