"""Edits of heads: interpolation, style mixing, swapping parts, principal directions, and the
command."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.small_network import small_network

from gghead import checkpoints
from gghead import latent as latent_files
from gghead.cli.common import PSI
from gghead.cli.edit import main
from gghead.cli.gen_samples import main as gen_samples
from gghead.editing import (
    between,
    between_seeds,
    blend_latents,
    blend_planes,
    find_directions,
    mix_layers,
    part_mask,
)
from gghead.editing import directions as direction_files
from gghead.editing.mixing import layer_of, slerp
from gghead.editing.parts import part_names
from gghead.editing.regions import APPEARANCE, GEOMETRY, at_gaussians, membrane
from gghead.latent import Latent
from gghead.sampling import seed_latents
from gghead.template import load_template
from gghead.template.texels import texel_maps
from gghead.torch_utils.errors import UserError

HEAD = load_template("head")


@pytest.fixture(scope="module")
def model():
    return small_network()


@pytest.fixture(scope="module")
def face():
    """A network on the head template, which has landmarks and regions."""
    return small_network(template="head", plane_resolution=16, latent_resolution=8, grid=32)


def random_latent(model, seed, residual=True, delta=True):
    random = torch.Generator().manual_seed(seed)
    side = model.config.latent_resolution
    names = ("blocks.0.conv0.weight", "blocks.0.conv1.bias", "to_planes.1.weight") if delta else ()
    parameters = dict(model.decoder.named_parameters())
    return Latent(
        torch.randn(1, model.num_ws, model.config.w_dim, generator=random),
        (
            torch.randn(1, model.synthesis.out_channels, side, side, generator=random)
            if residual
            else None
        ),
        {name: 0.3 * torch.randn(1, *parameters[name].shape, generator=random) for name in names},
    )


def same_head(model, first, second, atol=1e-5):
    a, b = first.gaussians(model), second.gaussians(model)
    for name in ("means", "scales", "opacities", "colors"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=atol, rtol=1e-4)


# ------------------------------------------------------------------- interpolation
def test_the_ends_of_an_interpolation_are_the_heads_and_the_middle_is_their_mean(model):
    plain, full = random_latent(model, 0, residual=False, delta=False), random_latent(model, 1)
    same_head(model, between(plain, full, 0.0), plain)
    same_head(model, between(plain, full, 1.0), full)
    middle = between(plain, full, 0.5)
    torch.testing.assert_close(middle.ws, (plain.ws + full.ws) / 2)
    torch.testing.assert_close(middle.residual, full.residual / 2)
    torch.testing.assert_close(
        middle.delta["to_planes.1.weight"], full.delta["to_planes.1.weight"] / 2
    )


def test_one_head_meets_a_batch(model):
    one, two = (
        random_latent(model, 0),
        latent_files.stack([random_latent(model, 1), random_latent(model, 2)]),
    )
    assert torch.equal(between(one, two, 1.0).ws, two.ws) and len(between(two, one, 0.3)) == 2


def test_slerp_stays_on_the_sphere_at_an_even_pace():
    a, b = torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(0)).unbind()
    a, b = a / a.norm(), 3 * b / b.norm()
    way = torch.cat([slerp(a, b, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)])
    torch.testing.assert_close(way[[0]], a)
    torch.testing.assert_close(way[[-1]], b)
    torch.testing.assert_close(way.norm(dim=1), torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0]))
    unit = way / way.norm(dim=1, keepdim=True)
    angles = (unit[1:] * unit[:-1]).sum(1).acos()
    torch.testing.assert_close(angles, angles.mean().expand(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(slerp(a, a, 0.4), a)


def test_the_way_between_seeds_starts_and_ends_at_them(model):
    first, second = seed_latents(model, [3, 8], 0.7)
    torch.testing.assert_close(between_seeds(model, 3, 8, 0.0, 0.7).ws, first.ws)
    torch.testing.assert_close(between_seeds(model, 3, 8, 1.0, 0.7).ws, second.ws)


# -------------------------------------------------------------------- style mixing
def test_all_layers_are_the_donor_and_none_the_base(model):
    base, donor = random_latent(model, 0, residual=False), random_latent(model, 1)
    same_head(model, mix_layers(model, base, donor, range(model.num_ws)), donor)
    same_head(model, mix_layers(model, base, donor, []), base)
    half = mix_layers(model, base, donor, range(model.num_ws), strength=0.5)
    same_head(model, half, between(base, donor, 0.5))


def test_layers_below_the_cut_make_z_and_the_others_leave_it(model):
    base, donor = random_latent(model, 0), random_latent(model, 1)
    below, above = range(model.synthesis.num_ws), range(model.synthesis.num_ws, model.num_ws)
    torch.testing.assert_close(
        mix_layers(model, base, donor, below).features(model), donor.features(model)
    )
    mixed = mix_layers(model, base, donor, above)
    torch.testing.assert_close(mixed.features(model), base.features(model))
    assert all(torch.equal(mixed.delta[name], donor.delta[name]) for name in donor.delta)


def test_a_decoder_weight_goes_with_the_style_it_is_used_with():
    model = small_network(plane_resolution=16)  # two blocks above the cut
    ws = torch.randn(
        1, model.num_ws, model.config.w_dim, generator=torch.Generator().manual_seed(0)
    )
    z = model.latent(ws)
    seen = {}
    handles = [
        module.register_forward_pre_hook(
            lambda _, args, name=name: seen.__setitem__(name, args[0].clone())
        )
        for name, module in model.decoder.named_modules()
        if name.endswith("affine")
    ]
    model.decoder(z, ws[:, model.synthesis.num_ws :])
    for handle in handles:
        handle.remove()
    assert len(seen) == 7
    for name, style in seen.items():
        assert torch.equal(style, ws[:, layer_of(model, name.replace("affine", "weight"))]), name


def test_a_layer_that_is_not_there(model):
    base = random_latent(model, 0)
    with pytest.raises(UserError, match=r"no layer 9: its styles are 0 to 3 \(up to 0 make Z"):
        mix_layers(model, base, base, [1, 9])


# ------------------------------------------------------------------ parts of a face
def test_left_and_right_parts_are_mirror_images():
    for part in ("eye", "brow", "cheek"):
        left, right = (part_mask(HEAD, f"{side} {part}", 64) for side in ("left", "right"))
        assert left.max() > 0.9 and (left * right).max() < 0.1
        torch.testing.assert_close(left.flip(-1), right, atol=0.02, rtol=0)
    torch.testing.assert_close(
        part_mask(HEAD, "eyes", 64),
        torch.maximum(part_mask(HEAD, "left eye", 64), part_mask(HEAD, "right eye", 64)),
    )


@pytest.mark.parametrize(
    "part, mark",
    [
        ("nose", "noseTip"),
        ("mouth", "mouthCentre"),
        ("chin", "chin"),
        ("forehead", "forehead"),
        ("hair", "crown"),
        ("left eye", "pupilLeft"),
    ],
)
def test_parts_lie_where_they_belong(part, mark):
    position = texel_maps(HEAD, 128).position
    mask = part_mask(HEAD, part, 128)[0]

    def at(name):
        target = torch.from_numpy(HEAD.landmarks[name]).float()[:, None, None]
        return mask.flatten()[(position - target).norm(dim=0).argmin()]

    assert at(mark) > 0.95
    others = {"noseTip", "mouthCentre", "chin", "forehead", "crown", "pupilLeft"} - {mark}
    assert all(at(name) < 0.05 for name in others)


def test_coarse_masks_are_averages_and_hard_ones_are_hard():
    fine, coarse = part_mask(HEAD, "nose", 256), part_mask(HEAD, "nose", 16)
    torch.testing.assert_close(coarse, torch.nn.functional.avg_pool2d(fine, 16), atol=1e-5, rtol=0)
    assert set(part_mask(HEAD, "nose", 256, softness=0.0).unique().tolist()) == {0.0, 1.0}


def test_unknown_parts():
    with pytest.raises(UserError, match="has no part 'noes'; its parts are: nose, mouth"):
        part_mask(HEAD, "mouth+noes", 16)
    assert part_names(load_template("sphere")) == []
    with pytest.raises(UserError, match="'sphere' has no part 'nose'; its parts are: none"):
        part_mask(load_template("sphere"), "nose", 16)


# --------------------------------------------------------------- swapping of regions
def test_z_is_the_donors_inside_the_mask_and_the_result_is_a_latent(face, tmp_path):
    base, donor = random_latent(face, 0, residual=False), random_latent(face, 1)
    mask = (torch.arange(8) < 3).float().expand(1, 8, 8)
    blended = blend_latents(face, base, donor, mask)
    z = blended.features(face)
    torch.testing.assert_close(z[..., :3], donor.features(face)[..., :3])
    torch.testing.assert_close(z[..., 3:], base.features(face)[..., 3:])
    assert torch.equal(blended.ws, base.ws)
    latent_files.save(tmp_path / "latent-region.safetensors", blended, face)
    same_head(
        face, latent_files.load(tmp_path / "latent-region.safetensors", face), blended, atol=2e-3
    )
    with pytest.raises(ValueError, match=r"mask must have shape \[\.\.\., 1, 8, 8\]"):
        blend_latents(face, base, donor, mask[:, :4])


def test_planes_are_the_donors_inside_the_mask(face):
    base, donor = random_latent(face, 0), random_latent(face, 1)
    nothing, everything = torch.zeros(1, 16, 16), torch.ones(1, 16, 16)
    same_head(face, blend_planes(face, base, donor, nothing), base)
    same_head(face, blend_planes(face, base, donor, everything, fit=False), donor)
    half = blend_planes(
        face, base, donor, (torch.arange(16) < 8).float().expand(1, 16, 16), fit=False
    )
    inside = half.weight == 1
    a, b, mixed = (head.gaussians(face) for head in (base, donor, half))
    torch.testing.assert_close(mixed.means[:, inside], b.means[:, inside])
    outside = half.weight == 0
    torch.testing.assert_close(mixed.colors[:, outside], a.colors[:, outside])
    assert inside.sum() > 300 and outside.sum() > 300


@pytest.mark.parametrize(
    "take, changed, kept", [("shape", GEOMETRY, APPEARANCE), ("color", APPEARANCE, GEOMETRY)]
)
def test_shape_and_color_come_over_apart(face, take, changed, kept):
    base, donor = random_latent(face, 0), random_latent(face, 1)
    head = blend_planes(face, base, donor, torch.ones(1, 16, 16), take, fit=False).gaussians(face)
    fields = {
        "position": "means",
        "scale": "scales",
        "rotation": "quats",
        "color": "colors",
        "opacity": "opacities",
    }
    a, b = base.gaussians(face), donor.gaussians(face)
    for kinds, whose in ((changed, b), (kept, a)):
        for kind in kinds:
            torch.testing.assert_close(getattr(head, fields[kind]), getattr(whose, fields[kind]))


def test_a_part_takes_on_the_tone_of_its_new_head(face):
    """A lighter twin, whose colors differ by one factor per channel, changes nothing when it is
    fitted."""
    base = random_latent(face, 0, delta=False)
    raw = base.raw_attributes(face)
    light = raw["color"].clamp(-3, 3)
    tint = torch.tensor([0.9, 0.5, 0.7])  # of the base, against the donor

    class Fixed(Latent):
        def raw_attributes(self, *args):
            return {**raw, "color": torch.logit(light.sigmoid() * tint)}

    class Tinted(Latent):
        def raw_attributes(self, *args):
            return {**raw, "color": light}

    base = Fixed(base.ws)
    mask = part_mask(face.template, "nose", 16)
    own = base.gaussians(face).colors
    plain, fitted = (
        blend_planes(face, base, Tinted(base.ws), mask, fit=fit).gaussians(face)
        for fit in (False, True)
    )
    assert (plain.colors - own).abs().max() > 0.1
    torch.testing.assert_close(fitted.colors, own, atol=2e-3, rtol=0)


def test_the_membrane_continues_harmonic_functions(face):
    """A plane over (u, v) solves the Laplace equation, so what is cut out of it is put back."""
    uv = face.attributes.uv
    plane = torch.stack([uv[:, 0] + 0.5 * uv[:, 1], torch.ones(len(uv))], 1)[None]
    weight = (uv.norm(dim=1) < 0.4).float()
    filled = membrane(face, plane * (weight == 0)[:, None], weight)
    torch.testing.assert_close(filled, plane, atol=2e-3, rtol=0)
    assert not membrane(face, plane, torch.ones(len(uv))).any()


def test_masks_are_read_at_the_gaussians(face):
    ramp = torch.linspace(-15 / 16, 15 / 16, 16).expand(1, 16, 16)
    inside = face.attributes.uv[:, 0].abs() < 15 / 16
    torch.testing.assert_close(at_gaussians(face, ramp)[0][inside], face.attributes.uv[inside, 0])


# ---------------------------------------------------------------------- directions
def test_directions_are_the_principal_components_of_w(model):
    found = find_directions(model, samples=5000, count=8)
    torch.testing.assert_close(
        found.components @ found.components.T, torch.eye(8), atol=1e-5, rtol=0
    )
    assert (found.deviations.diff() <= 0).all() and float(found.explained.sum()) == pytest.approx(
        1.0
    )
    # Other samples have the same covariance, up to chance.
    z = torch.randn(20000, model.z_dim, generator=torch.Generator().manual_seed(9))
    w = model.mapping(z)[:, 0]
    along = (w - w.mean(0)) @ found.components.T
    torch.testing.assert_close(along.std(0), found.deviations, atol=0, rtol=0.05)
    torch.testing.assert_close(found.mean, w.mean(0), atol=0.05, rtol=0)
    again = find_directions(model, samples=5000, count=3)
    assert torch.equal(again.components, found.components[:3]), "a repetition gives the same"


def test_a_move_is_exact_and_on_its_layers_only(model):
    found, head = find_directions(model, samples=2000, count=5), random_latent(model, 0)
    moved = found.move(head, 2, -1.5, [1, 3])
    change = found.coordinates(moved) - found.coordinates(head)
    wanted = torch.zeros(1, model.num_ws, 5)
    wanted[:, [1, 3], 2] = -1.5
    torch.testing.assert_close(change, wanted, atol=1e-4, rtol=0)
    assert torch.equal(moved.residual, head.residual) and moved.delta is head.delta
    same_head(model, found.move(moved, 2, 1.5, [1, 3]), head, atol=1e-4)
    with pytest.raises(UserError, match="no component 5: 0 to 4"):
        found.move(head, 5, 1.0)


def test_direction_files(model, tmp_path):
    found, file = (
        find_directions(model, samples=500, count=4),
        tmp_path / "new" / "directions.safetensors",
    )
    direction_files.save(file, found, model)
    first = file.read_bytes()
    assert torch.equal(direction_files.load(file, model).components, found.components)
    direction_files.save(file, found, model)
    assert file.read_bytes() == first
    with pytest.raises(UserError, match="made with another network"):
        direction_files.load(file, small_network(seed=5))
    latent_files.save(tmp_path / "latent.safetensors", random_latent(model, 0), model)
    with pytest.raises(UserError, match="latent.safetensors holds no directions"):
        direction_files.load(tmp_path / "latent.safetensors", model)
    file.write_bytes(first[:100])
    with pytest.raises(UserError, match="is truncated"):
        direction_files.load(file, model)
    with pytest.raises(UserError, match="nothing.safetensors do not exist"):
        direction_files.load(tmp_path / "nothing.safetensors", model)


def test_too_many_components_and_too_few_samples(model):
    with pytest.raises(UserError, match="w has 8 dimensions"):
        find_directions(model, count=9)
    with pytest.raises(UserError, match="8 samples are too few"):
        find_directions(model, samples=8, count=2)


def test_moves_on_the_command_line(model):
    assert direction_files.parse_moves(model, "0:2, 3:-1.5@0-2,1:.5@3") == [
        (0, 2.0, None),
        (3, -1.5, [0, 1, 2]),
        (1, 0.5, [3]),
    ]
    for text, words in (
        ("0=2", "is no move"),
        ("0:1@3-1", "run backwards"),
        ("0:1@0-9", "no layer 4"),
    ):
        with pytest.raises(UserError, match=words):
            direction_files.parse_moves(model, text)


# ------------------------------------------------------------------------- command
@pytest.fixture(scope="module")
def network(face, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "network-snapshot-000001.safetensors"
    checkpoints.save(face, path)
    return path


def call(*options, command=main, fails=False):
    result = CliRunner().invoke(command, [str(option) for option in options])
    assert bool(result.exit_code) == fails and "Traceback" not in result.output, result.output
    return result.output


def test_mixed_heads_are_drawn_by_the_other_commands(face, network, tmp_path):
    out = tmp_path / "out"
    options = ["mix", f"--network={network}", "--layers=2-4", f"--outdir={out}", "--size=8"]
    text = call(*options, "--rows=0,1", "--cols=5-6")
    names = ["seed0000+seed0005", "seed0000+seed0006", "seed0001+seed0005", "seed0001+seed0006"]
    files = [out / name / "latent-mix.safetensors" for name in names]
    assert (
        all(str(file) in text and file.is_file() for file in files)
        and (out / "sheet.png").is_file()
    )
    a, b = seed_latents(face, [1, 6], PSI)
    assert torch.equal(latent_files.load(files[3], face).ws, mix_layers(face, a, b, [2, 3, 4]).ws)
    call(
        f"--network={network}",
        f"--latents={out}",
        f"--outdir={tmp_path / 'drawn'}",
        "--size=8",
        command=gen_samples,
    )
    assert sorted(path.stem for path in (tmp_path / "drawn").iterdir()) == [
        "grid",
        *(f"{name}-mix" for name in names),
    ]
    # A file is a head like a seed.
    call(*options, f"--rows={files[0]}", "--cols=3", "--shapes", "--overwrite")
    assert (out / "seed0000+seed0005-mix+seed0003" / "mix.ply").is_file()


def test_interpolation_writes_steps_and_a_film(face, network, tmp_path):
    film = tmp_path / "way.webp"
    call(
        "interpolate",
        f"--network={network}",
        "--heads=2,4",
        "--steps=4",
        "--space=z",
        "--size=8",
        f"--outdir={tmp_path}",
        f"--video={film}",
        "--frames=2",
    )
    found = sorted(path.parent.name for path in tmp_path.glob("*/latent-between.safetensors"))
    assert found == [f"seed0002+seed0004-{step:02d}of04" for step in (1, 2, 3)]
    latent = latent_files.load(tmp_path / found[0] / "latent-between.safetensors", face)
    torch.testing.assert_close(latent.ws, between_seeds(face, 2, 4, 0.25, PSI).ws)
    assert film.stat().st_size > 100 and latent.info["share"] == 0.25
    steps = tmp_path / found[0] / "latent-between.safetensors"
    text = call(
        "interpolate", f"--network={network}", f"--heads=1,{steps}", "--space=z", fails=True
    )
    assert "--space=z needs seeds" in text
    assert "at least 2 heads" in call(
        "interpolate", f"--network={network}", "--heads=1", fails=True
    )
    assert "names seed0001 twice" in call(
        "interpolate", f"--network={network}", "--heads=1,1", fails=True
    )


def test_swapped_parts_are_splats_or_latents(network, tmp_path):
    options = [
        "region",
        f"--network={network}",
        "--rows=0",
        "--cols=1",
        f"--outdir={tmp_path}",
        "--size=8",
    ]
    assert "region.ply" in call(*options, "--part=nose")
    assert not list(tmp_path.glob("*/*.safetensors"))
    assert "sheet.png exists already" in call(*options, "--part=mouth", fails=True)
    options.append("--overwrite")
    assert "latent-region.safetensors" in call(*options, "--part=left eye+mouth", "--space=z")
    assert "has no part 'beak'" in call(*options, "--part=beak", fails=True)
    assert "belong to --space=planes" in call(
        *options, "--part=nose", "--space=z", "--take=shape", fails=True
    )
    (tmp_path / "file").touch()
    text = call(
        *options[:4], f"--outdir={tmp_path / 'file'}", "--part=nose", "--size=8", fails=True
    )
    assert "cannot be written" in text


def test_directions_are_found_and_used(face, network, tmp_path):
    text = call(
        "pca",
        f"--network={network}",
        "--count=4",
        "--samples=300",
        "--show=2",
        "--size=8",
        f"--outdir={tmp_path}",
        "--heads=3",
        "--layers=0-2",
    )
    assert len([line for line in text.splitlines() if line.endswith("%")]) == 4
    file = tmp_path / "directions.safetensors"
    call(
        "move",
        f"--network={network}",
        "--heads=0-1",
        f"--directions={file}",
        "--by=1:2.5@0-1",
        "--size=8",
        f"--outdir={tmp_path / 'moved'}",
    )
    moved = latent_files.load(tmp_path / "moved" / "seed0001" / "latent-move.safetensors", face)
    (head,) = seed_latents(face, [1], PSI)
    torch.testing.assert_close(
        moved.ws, direction_files.load(file, face).move(head, 1, 2.5, [0, 1]).ws
    )
    assert moved.info["by"] == "1:2.5@0-1" and not np.allclose(moved.ws, head.ws)
    assert "shows one" in call(
        "pca", f"--network={network}", "--heads=0-1", "--size=8", "--count=2", fails=True
    )
