"""Compressed avatars: against the dense avatar and the dense reconstruction, gradients, bytes,
files, the commands."""

import json

import pytest
import torch
from click.testing import CliRunner
from helpers.avatar_sequence import write_sequence
from helpers.small_avatar import VARIANTS, dense, expressions

import gghead
from gghead import checkpoints
from gghead.models.compressed_avatar import CompressedAvatar
from gghead.models.compression import CompressionPlan, factorize, second_moment
from gghead.models.quantized_tensor import QuantizedTensor
from gghead.torch_utils.errors import UserError
from gghead.training.cli.benchmark import main as benchmark
from gghead.training.cli.compress_avatar import main
from gghead.training.cli.score_avatar import main as score_main

FIELDS = ("means", "quats", "scales", "opacities", "colors")
ALL = CompressionPlan(rank=1000, combinations=1000, prune=0.0)


def by_place(gaussians):
    """Gaussians in an order that only follows where they are; compressed avatars keep them in
    another."""
    return gaussians.select(gaussians.means[0, :, 0].argsort())


@pytest.mark.parametrize("options", VARIANTS)
def test_all_movements_are_the_avatar_itself(options):
    avatar = dense(**options)
    again = factorize(avatar, expressions(), ALL)
    assert again.num == avatar.num and again.config.factors.bits == 32
    # also where no training frame was
    for e in (expressions(5, 7), torch.zeros(1, 3), torch.eye(3)):
        a, b = avatar(e), again(e)
        if options.get("changes") in (None, "appearance"):
            a, b = by_place(a), by_place(b)
        else:  # means move, but the order is the same for all frames
            order = [avatar.means[:, 0].argsort(), again.means[:, 0].argsort()]
            a, b = (gaussians.select(which) for gaussians, which in zip((a, b), order, strict=True))
        for name in FIELDS:
            left, right = getattr(a, name), getattr(b, name)
            if name == "quats":
                left, right = (torch.nn.functional.normalize(q, dim=-1) for q in (left, right))
            torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_the_forward_pass_is_the_dense_reconstruction_of_its_factors(bits):
    """Each activation written out as a sum of products, in double precision, by loops over
    Gaussians and movements."""
    small = factorize(dense(still=9), expressions(), CompressionPlan(4, 2, 0.3))
    small = small if bits == 32 else small.quantize(bits)
    factors, e = small.config.factors, expressions(2, 5)
    assert len(factors.ranks) > 1 and 0 in factors.ranks
    tables, mixed = small.tables().double(), (e - small.center).double() @ small.mixing.double()
    rows = [row for weight in small.weights for row in weight().double()]
    expected = small.fixed().double().repeat(2, 1, 1)
    for t in range(2):
        for n, row in enumerate(rows):
            for k, share in enumerate(row):
                for r in range(factors.combinations):
                    expected[t, n] += share * mixed[t, r] * tables[r, k]
    torch.testing.assert_close(small.inner(e).double(), expected, rtol=1e-4, atol=1e-5)
    # Frame by frame, in blocks, with the scales inside the movements.
    for t in range(2):
        mixture = small.mixture(e[t : t + 1])
        blocks = small.blocks(7)
        assert [first for first, _ in blocks[1:]] == [last for _, last in blocks[:-1]] and blocks[
            -1
        ][1] == small.num
        parts = torch.cat([small.rows(first, last, mixture, None) for first, last in blocks])
        torch.testing.assert_close(parts.double(), expected[t], rtol=1e-4, atol=1e-5)


def test_gradients_of_the_factors():
    small = (
        factorize(dense(count=5), expressions(), CompressionPlan(2, 2, 0.0))
        .double()
        .requires_grad_()
    )
    e = expressions(1).double()
    names = ["fixed.codes", "weights.0.codes", "tables.codes", "places.codes"]
    inputs = [
        dict(small.named_parameters())[name].detach().clone().requires_grad_() for name in names
    ]

    def look(*values):
        gaussians = torch.func.functional_call(small, dict(zip(names, values, strict=True)), (e,))
        return (
            gaussians.colors.sin().sum()
            + gaussians.opacities.sum()
            + gaussians.means.square().sum()
        )

    assert torch.autograd.gradcheck(look, inputs)


def test_what_is_left_out_is_the_least_possible():
    """In the mean square over the frames no other K movements do better than the singular vectors:
    the rest of the singular values is what is lost."""
    avatar, frames = dense(), expressions(50)
    center, moment = second_moment(frames, avatar.coefficient_min, avatar.coefficient_max)
    spread = torch.linalg.cholesky(moment)
    probes = torch.cat([center[None], center + spread.T]).float()
    activations = avatar.inner(probes)
    whole = (activations[1:] - activations[:1]).transpose(0, 1).flatten(1).double()
    singular = torch.linalg.svdvals(whole)
    for rank in (1, 3, 6):
        small = factorize(avatar, frames, CompressionPlan(rank, 3, 0.0))
        order = [avatar.means[:, 0].argsort(), small.means[:, 0].argsort()]
        approximate = small.inner(probes)[:, order[1]]
        lost = (approximate - activations[:, order[0]])[1:].double().square().sum()
        torch.testing.assert_close(lost, singular[rank:].square().sum(), rtol=1e-3, atol=1e-6)


def test_gaussians_that_never_move_keep_no_movement():
    small = factorize(dense(count=50, still=20), expressions(), CompressionPlan(8, 3, 0.01))
    assert dict(zip(small.config.factors.ranks, small.config.factors.counts, strict=True))[0] == 20
    a, b = small(torch.zeros(1, 3)), small(torch.ones(1, 3))
    assert torch.equal(a.colors[:, -20:], b.colors[:, -20:]) and not torch.equal(a.colors, b.colors)


@pytest.mark.parametrize("bits, worst", [(8, 0.03), (16, 2e-4)])
def test_quantizing_changes_little_and_shrinks(bits, worst):
    whole = factorize(dense(count=400), expressions(), CompressionPlan(6, 3, 0.0))
    small = whole.quantize(bits)
    a, b = whole(expressions(3, 9)), small(expressions(3, 9))
    assert 0 < (a.opacities - b.opacities).abs().max() < worst
    assert (a.means - b.means).abs().max() < 1e-4
    fine = 2  # bytes per number of the geometry
    expected = 400 * (10 * fine + (8 + 6) * bits // 8) + small.tables.codes.numel() * bits // 8
    scales = 8 * (3 + 3 + 4 + 8 + 6 + small.config.factors.combinations * 6)
    floats = 4 * (4 * 3 + 3 * small.config.factors.combinations - 3 + 8 * 13 + 13)
    assert small.nbytes == expected + scales + floats
    with pytest.raises(ValueError, match=f"has {bits} bits per number already"):
        small.quantize(8)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_quantized_values_are_within_half_a_step(bits):
    value = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1.0, 1e-3, 100.0, 0.0]
    )
    made = QuantizedTensor.of(value, bits, 0)
    steps = (value.amax(0) - value.amin(0)) / (2**bits - 2)
    assert ((made() - value).abs() <= 0.5001 * steps + 1e-6 * value.abs().amax(0)).all()
    assert made.codes.dtype == {8: torch.int8, 16: torch.int16, 32: torch.float32}[bits]


@pytest.mark.parametrize("bits", [8, 32])
@pytest.mark.parametrize("options", VARIANTS)
def test_file_round_trip(options, bits, tmp_path):
    small = factorize(dense(**options), expressions(), CompressionPlan(4, 2, 0.1))
    small = (small if bits == 32 else small.quantize(bits)).requires_grad_(False)
    checkpoints.save(small, tmp_path / "small.safetensors")
    again = gghead.load(tmp_path / "small.safetensors", kind="avatar")
    assert (
        isinstance(again, CompressedAvatar)
        and again.config == small.config
        and again.nbytes == small.nbytes
    )
    for name, value in small.state_dict().items():
        assert (
            torch.equal(again.state_dict()[name], value)
            and again.state_dict()[name].dtype == value.dtype
        ), name
    a, b = small(expressions(2)), again(expressions(2))
    assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def test_broken_files_are_a_sentence(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = tmp_path / "small.safetensors"
    checkpoints.save(
        factorize(dense(), expressions(), CompressionPlan(4, 2, 0.1)).quantize(8), path
    )
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    del metadata["blake2b"]  # as files of other programs, which have no hash
    config = json.loads(metadata["config"])

    def write(changes=None, drop=()):
        changed = {**config, "factors": {**config["factors"], **(changes or {})}}
        kept = {name: value for name, value in tensors.items() if name not in drop}
        save_file(kept, path, {**metadata, "config": json.dumps(changed)})

    for change, drop, sentence in (
        (
            {"counts": [60, 60]},
            (),
            "does not fit its own config \\(60 Gaussians, but groups of \\[60, 60\\]",
        ),
        ({"ranks": [1, 2], "counts": [30, 30]}, (), "contradict themselves"),
        ({"ranks": [], "counts": [60]}, (), "contradict themselves"),
        ({"bits": 4}, (), "factors.bits must be one of 8, 16, 32"),
        ({"combinations": 3}, (), "does not fit its own config"),
        ({"bit": 8}, (), "did you mean 'bits'"),
        ({}, ("tables.codes",), "does not fit its own config"),
        ({}, ("places.codes",), "holds no Gaussians"),
    ):
        write(change, drop)
        with pytest.raises(UserError, match=sentence):
            gghead.load(path)


def test_what_cannot_be_compressed_is_refused():
    avatar = dense()
    with pytest.raises(UserError, match="is compressed already"):
        factorize(factorize(avatar, None, ALL), None, ALL)
    avatar.coefficient_max.fill_(torch.inf)
    with pytest.raises(UserError, match="does not say which coefficients"):
        factorize(avatar, None, ALL)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compress")
    checkpoints.save(dense(count=300), folder / "avatar-000001.safetensors")
    return folder / "avatar-000001.safetensors", write_sequence(folder / "person")


def run(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_command_makes_an_avatar_that_can_be_scored(files, tmp_path):
    avatar, data = files
    dest = tmp_path / "out" / "small.safetensors"
    result = run(main, f"--avatar={avatar}", f"--data={data}", f"--dest={dest}", "--rank=6")
    assert result.exit_code == 0, result.output
    assert "bytes per Gaussian" in result.output and dest.stat().st_size < avatar.stat().st_size
    assert gghead.load(dest).config.factors.bits == 8
    result = run(score_main, f"--avatar={dest}", f"--data={data}", "--device=cpu")
    assert result.exit_code == 0, result.output
    boxed = tmp_path / "box.safetensors"
    assert (
        run(main, f"--avatar={avatar}", "--data=box", f"--dest={boxed}", "--bits=32").exit_code == 0
    )
    assert gghead.load(boxed).config.factors.bits == 32


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--dest=x.ply"], "must end in .safetensors"),
        (["--dest=x.safetensors"], "name one with --data=DIR"),
        (["--dest={avatar}", "--data=box"], "is the avatar itself"),
    ],
)
def test_the_command_refuses_in_a_sentence(files, options, sentence):
    before = files[0].read_bytes()
    result = run(
        main, f"--avatar={files[0]}", *(option.format(avatar=files[0]) for option in options)
    )
    assert result.exit_code == 1 and sentence in result.output and "Traceback" not in result.output
    assert files[0].read_bytes() == before


def test_the_table_has_a_row_for_every_setting(files, tmp_path):
    path = tmp_path / "table.json"
    result = run(
        benchmark,
        "compression",
        f"--avatar={files[0]}",
        f"--data={files[1]}",
        "--rank=2,8",
        "--bits=8,32",
        "--prune=0,0.5",
        f"--json={path}",
    )
    assert result.exit_code == 0, result.output
    first, *rows = json.loads(path.read_text())["rows"]
    assert [(row["rank"], row["prune"], row["bits"]) for row in rows] == [
        (rank, prune, bits) for rank in (2, 8) for prune in (0, 0.5) for bits in (8, 32)
    ]
    assert first["file_bytes"] == files[0].stat().st_size
    assert all(row["file_bytes"] < first["file_bytes"] and row["psnr"] > 0 for row in rows)
    wrong = run(benchmark, "compression", f"--avatar={files[0]}", f"--data={files[1]}", "--bits=4")
    assert wrong.exit_code == 1 and "8, 16 or 32 bits, not 4" in wrong.output
