"""Snapshots: round trip, header, and one sentence for every damaged file."""

import json
from pathlib import Path

import pytest
import torch
from helpers.small_network import small_network
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import gghead
from gghead import checkpoints
from gghead.cameras import Cameras
from gghead.models.avatar import Avatar
from gghead.models.avatar_config import AvatarConfig
from gghead.models.config import AttributeConfig, BackgroundConfig, GeneratorConfig
from gghead.models.generator import Generator
from gghead.template import load_template, save_obj
from gghead.torch_utils import seal
from gghead.torch_utils.errors import UserError

CONFIG = GeneratorConfig(
    z_dim=8,
    w_dim=8,
    template="sphere",
    plane_resolution=16,
    latent_resolution=8,
    cbase=128,
    cmax=8,
    grid=16,
    image_size=16,
    attributes=AttributeConfig(rotation="6d"),
    background=BackgroundConfig(kind="gaussians", resolution=8, cbase=64, cmax=8),
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Generator(CONFIG).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return model


def image(model):
    ws = model.mapping(model.seed_to_z(3), truncation_psi=0.7)
    with torch.no_grad():
        return model.images(ws, Cameras.orbit(0.3), 16).color


def test_round_trip_gives_the_same_image(model, tmp_path):
    path = tmp_path / "network-snapshot-000012.safetensors"
    checkpoints.save(model, path, done=12.5, provenance={"dataset": "x.zip"})
    info = checkpoints.read_info(path)
    assert (info.config, info.kimg, info.provenance) == (CONFIG, 12.5, {"dataset": "x.zip"})
    loaded = gghead.load(tmp_path)  # the run folder: its newest snapshot
    assert torch.equal(image(loaded), image(model))
    assert not any(p.requires_grad for p in loaded.parameters()) and not loaded.training


def test_a_header_is_read_without_the_tensors(model, tmp_path, monkeypatch):
    path = tmp_path / "network-snapshot-000012.safetensors"
    checkpoints.save(model, path, done=12.5)

    class HeaderOnly:
        def __init__(self, *args, **options):
            self.file = safe_open(*args, **options)

        def __enter__(self):
            return self.file.__enter__() and self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def metadata(self):
            return self.file.metadata()

        def keys(self):
            return ["never read"]

        def get_tensor(self, name):
            pytest.fail("a tensor is read")

    monkeypatch.setattr("safetensors.safe_open", HeaderOnly)
    assert checkpoints.read_info(path).kimg == 12.5


def test_half_precision_is_smaller_and_close(model, tmp_path):
    for name, dtype in (("full", torch.float32), ("half", torch.float16)):
        checkpoints.save(model, tmp_path / f"{name}.safetensors", dtype=dtype)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < sizes[0]
    torch.testing.assert_close(
        image(gghead.load(tmp_path / "half.safetensors")), image(model), atol=0.02, rtol=0
    )


def test_the_shipped_network_loads_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    info, path = checkpoints.read_info("demo"), checkpoints.SHIPPED["demo"]
    assert path.stat().st_size <= 10 * 2**20 and info.kimg > 0
    assert info.provenance["command"].startswith("scripts/train_decoder.py ")
    head = gghead.load("demo").sample(3, psi=0.7)
    assert head.means.shape == (1, 128 * 128, 3) and head.means.isfinite().all()
    with pytest.raises(UserError, match="demo"):
        checkpoints.read_info("dmeo")


def test_own_template_travels_in_the_file(tmp_path):
    obj = tmp_path / "ball.obj"
    save_obj(load_template("sphere"), obj)
    config = checkpoints.config_json.replace(CONFIG, {"template": str(obj)})
    model = Generator(config).eval()
    checkpoints.save(model, tmp_path / "net.safetensors")
    obj.unlink()
    assert torch.equal(image(gghead.load(tmp_path / "net.safetensors")), image(model))


def test_newest_snapshot_is_taken(model, tmp_path):
    for kimg in (2, 10):
        checkpoints.save(model, tmp_path / f"network-snapshot-{kimg:06d}.safetensors", done=kimg)
    assert checkpoints.latest_snapshot(tmp_path).name.endswith("000010.safetensors")


def test_any_flipped_bit_of_a_snapshot_is_noticed(model, tmp_path):
    """But in the name of the hash, without which a file is read unchecked."""
    path = tmp_path / "net.safetensors"
    checkpoints.save(model, path)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    bits, name = 8 * len(whole), whole.index(b'"blake2b"')
    for bit in (*range(0, 8 * header, 97), *range(8 * header, bits, bits // 150), bits - 1):
        if bit // 8 in range(name, name + 9):
            continue
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        with pytest.raises(
            UserError,
            match="net.safetensors (is damaged|is truncated or no safetensors|has format)",
        ):
            gghead.load(path)
    path.write_bytes(whole)
    assert gghead.load(path).num_ws == model.num_ws


def test_a_snapshot_that_reads_back_as_something_else_is_not_kept(model, tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    checkpoints.save(model, path)
    before = path.read_bytes()
    monkeypatch.setattr(seal, "safetensors_are_whole", lambda *_: False)
    with pytest.raises(
        UserError, match="was not written as it should be: reading it back gave something else"
    ):
        checkpoints.save(model, path, done=1)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def rewrite(path, **changes):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = {**file.metadata(), **changes}
    metadata.pop("blake2b", None)  # as files of other programs, which have no hash
    save_file(load_file(path), path, metadata)


def test_faults_are_one_sentence(model, tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(UserError, match="does not exist"):
        gghead.load(path)
    with pytest.raises(UserError, match="holds no network-snapshot"):
        gghead.load(tmp_path)
    checkpoints.save(model, path)
    whole = path.read_bytes()
    for size in (0, 5, 1000, len(whole) - 8):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="truncated or no safetensors"):
            gghead.load(path)
    path.write_bytes(whole)
    config = json.loads(json.dumps(checkpoints.config_json.to_dict(CONFIG)))
    rewrite(path, config=json.dumps({**config, "w_dims": 8}))
    with pytest.raises(UserError, match="no key 'w_dims'; did you mean 'w_dim'"):
        gghead.load(path)
    rewrite(path, config=json.dumps({**config, "w_dim": 16}))
    with pytest.raises(UserError, match="does not fit its own config"):
        gghead.load(path)
    rewrite(path, config=json.dumps(config), format="gghead/99")
    with pytest.raises(UserError, match="format 'gghead/99'"):
        gghead.load(path)


def test_full_disk_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    checkpoints.save(model, path, done=1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gghead.torch_utils.files.os.fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        checkpoints.save(model, path, done=2)
    assert checkpoints.read_info(path).kimg == 1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_larger_images_show_no_more_than_the_training_size(model):
    """Four times the pixels, the same low-pass filter relative to the head: averaged down it is the
    small image."""
    with torch.no_grad():
        gaussians = model.gaussians(model.mapping(model.seed_to_z(3)))
        small = model.render(gaussians, Cameras.orbit(0.3), 16).color[0]
        large = model.render(gaussians, Cameras.orbit(0.3), 64).color[0]
        sharp = model.render(gaussians, Cameras.orbit(0.3), 64, eps2d=0.3).color[0]
    error = [(torch.nn.functional.avg_pool2d(x, 4) - small).abs().mean() for x in (large, sharp)]
    assert error[0] < error[1]
    assert torch.equal(large, gghead.render(gaussians, Cameras.orbit(0.3), 64).color[0])


def test_a_folder_named_like_the_shipped_network_does_not_hide_it(tmp_path, monkeypatch):
    """``make demo`` leaves such a folder behind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo" / "runs").mkdir(parents=True)
    assert checkpoints.read_info("demo").config.template == "head"
    checkpoints.save(small_network(), tmp_path / "demo" / "network-snapshot-000001.safetensors")
    assert checkpoints.read_info("demo").config.template == "head", "also where the folder is a run"
    for folder in ("./demo", Path("demo")):
        assert checkpoints.read_info(folder).config.template == "sphere"


def test_several_seeds_are_a_batch_in_which_each_head_is_its_own(model):
    batch = model.sample(seed=[1, 2, 5], psi=0.7)
    assert batch.shape == (3,)
    assert torch.equal(batch[1].means, model.sample(seed=2, psi=0.7)[0].means)


def test_a_network_is_not_named_by_a_number():
    with pytest.raises(
        TypeError, match="named by its file, its run folder or its name .'demo'., not by 3"
    ):
        gghead.load(3)


def test_what_is_no_model_and_what_is_kept_exactly_are_type_errors(model, tmp_path):
    with pytest.raises(TypeError, match="Identity is none of the models"):
        checkpoints.save(torch.nn.Identity(), tmp_path / "x.safetensors")
    avatar = Avatar(AvatarConfig(width=2), count=3)
    with pytest.raises(
        TypeError, match="(?i)avatar of one person is kept as it is, not as torch.float16"
    ):
        checkpoints.save(avatar, tmp_path / "x.safetensors", dtype=torch.float16)
    assert not list(tmp_path.iterdir())
