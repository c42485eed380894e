"""gghead convert-network: the same network in another precision."""

import pytest
import torch
from click.testing import CliRunner
from helpers.small_network import small_network

from gghead import checkpoints
from gghead.cli.convert_network import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "00001-tiny-heads"
    folder.mkdir()
    path = folder / "network-snapshot-000002.safetensors"
    checkpoints.save(small_network(), path, done=2.5, provenance={"dataset": "x.zip"})
    return folder


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_weights_are_rounded_and_all_else_is_kept(run, tmp_path, name, dtype):
    dest = tmp_path / "new folder" / "small.safetensors"
    result = CliRunner().invoke(main, [f"--network={run}", f"--dest={dest}", f"--dtype={name}"])
    assert result.exit_code == 0, result.output
    assert f"{dest}: " in result.output and f" MiB, 2.5 kimg, {name}" in result.output
    assert checkpoints.read_info(dest) == checkpoints.read_info(run)
    before, after = (checkpoints.load(path).state_dict() for path in (run, dest))
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert torch.equal(
            after[key], value.to(dtype).float() if value.is_floating_point() else value
        )


def test_half_precision_is_the_default_and_halves_the_weights(run, tmp_path):
    sizes = {}
    for name, options in (("half", []), ("whole", ["--dtype=fp32"])):
        dest = tmp_path / f"{name}.safetensors"
        result = CliRunner().invoke(main, [f"--network={run}", f"--dest={dest}", *options])
        assert result.exit_code == 0, result.output
        sizes[name] = dest.stat().st_size
    weights = sum(value.numel() for value in small_network().state_dict().values())
    assert sizes["whole"] - sizes["half"] == pytest.approx(2 * weights, rel=0.05)
