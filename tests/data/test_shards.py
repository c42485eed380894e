"""Data in many files: folders of zips, tar files, the orders that go with them, and the command
that splits a set."""

import json
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from gghead.cameras import Cameras
from gghead.cli.dataset_tool import main
from gghead.data.dataset import ImageDataset
from gghead.data.dataset_zip import DatasetWriter, FrameRecord, image_name
from gghead.data.loader import BatchLoader
from gghead.data.sampler import EpochSampler, ShardSampler
from gghead.data.shard_writer import write_shards
from gghead.data.zip_writer import encode_png
from gghead.torch_utils.errors import UserError


def image(seed, size=8):
    return np.random.RandomState(seed).randint(0, 256, (size, size, 3), dtype=np.uint8)


def mask(seed, size=8):
    return np.random.RandomState(100 + seed).randint(1, 256, (size, size), dtype=np.uint8)


def label(index):
    return Cameras.orbit(0.05 * index, 0.1).label()[0].double().numpy()


@pytest.fixture
def whole(tmp_path):
    """A set of 10 images with masks and records."""
    with DatasetWriter(tmp_path / "whole.zip") as writer:
        for i in range(10):
            record = FrameRecord(image_name(i), subject=i, other={"yaw": 0.5})
            writer.add(image_name(i), image(i), label(i), mask(i), record)
    return tmp_path / "whole.zip"


def same_items(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, b)
        for i in range(len(one))
        for a, b in zip(one.get(i), other.get(i), strict=True)
    )


# --------------------------------------------------------------------------------------------- zips
def test_zip_shards_are_the_set_they_came_from(whole, tmp_path):
    assert write_shards(whole, tmp_path / "shards", "zip", 4) == 3
    assert [file.name for file in sorted((tmp_path / "shards").iterdir())] == [
        f"shard-{i:06d}.zip" for i in range(3)
    ]
    for options in ({}, {"mirror": True}, {"max_images": 7}, {"resolution": 4}):
        one, many = ImageDataset(whole, **options), ImageDataset(tmp_path / "shards", **options)
        assert same_items(one, many) and many.has_masks and many.num_files == one.num_files
    dataset = ImageDataset(tmp_path / "shards")
    assert [dataset.record(i).subject for i in range(dataset.num_files)] == list(range(10))
    assert dataset.name(9) == "shard-000002/00000/img00000009.png"
    assert len({dataset.name(i) for i in range(10)}) == 10


@pytest.mark.parametrize("prefix", ["", "a.zip/", "a/"])
def test_one_dataset_json_beside_the_shards(tmp_path, prefix):
    folder = tmp_path / "set"
    folder.mkdir()
    for shard, seed in (("a.zip", 0), ("b.zip", 1)):
        with zipfile.ZipFile(folder / shard, "w") as archive:
            archive.writestr(f"{shard[0]}{seed}.png", encode_png(image(seed)))
    # masks of a shard are no shard
    with zipfile.ZipFile(folder / "a_masks_modnet.zip", "w") as archive:
        archive.writestr("a0.png", encode_png(mask(0)))
    content = {"labels": [[f"{prefix}a0.png", label(3).tolist()], ["b1.png", label(4).tolist()]]}
    (folder / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="a.zip .* has masks and b.zip has none"):
        ImageDataset(folder)
    dataset = ImageDataset(folder, masks=None)
    np.testing.assert_allclose(dataset.labels, np.stack([label(3), label(4)]), atol=1e-6)
    content["labels"].append(["c2.png", label(0).tolist()])
    (folder / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="labels 3 images, but its shards hold 2"):
        ImageDataset(folder, masks=None)


def test_a_folder_of_images_may_hold_archives_too(whole, tmp_path):
    with zipfile.ZipFile(whole) as archive:
        archive.extractall(tmp_path / "folder")
    for name in ("backup.zip", "backup.tar"):
        (tmp_path / "folder" / name).write_bytes(b"something else")
    assert same_items(ImageDataset(tmp_path / "folder"), ImageDataset(whole))


def test_shards_must_have_one_size(tmp_path):
    (tmp_path / "set").mkdir()
    for name, size in (("a", 8), ("b", 16)):
        with DatasetWriter(tmp_path / "set" / f"{name}.zip") as writer:
            writer.add("x.png", image(0, size), label(0))
    with pytest.raises(UserError, match="b.zip has 16 pixels and a.zip 8"):
        ImageDataset(tmp_path / "set")


def test_masks_of_shards_may_lie_in_a_folder(whole, tmp_path):
    write_shards(whole, tmp_path / "set", "zip", 5, masks=None)
    (tmp_path / "masks").mkdir()
    for shard in range(2):
        with zipfile.ZipFile(tmp_path / "masks" / f"shard-{shard:06d}.zip", "w") as archive:
            for i in range(5 * shard, 5 * shard + 5):
                archive.writestr(image_name(i), encode_png(mask(i)))
    assert same_items(ImageDataset(tmp_path / "set", masks=tmp_path / "masks"), ImageDataset(whole))
    with pytest.raises(UserError, match="folder with a zip of masks for each"):
        ImageDataset(tmp_path / "set", masks=whole)


def test_a_large_set_is_sampled_at_the_start_and_checked_when_read(tmp_path, monkeypatch):
    monkeypatch.setattr("gghead.data.image_files._PROBED_HEADERS", 3)
    with DatasetWriter(tmp_path / "a.zip") as writer:
        for i in range(6):
            writer.add(image_name(i), image(i, 16 if i == 3 else 8), label(i))
    dataset = ImageDataset(tmp_path / "a.zip")
    assert dataset.get(2)[0].shape == (3, 8, 8)
    with pytest.raises(UserError, match="img00000003.png is 16x16 and .*img00000000.png is 8x8"):
        dataset.get(3)


def test_the_index_of_a_zip_with_zip64_records_and_a_prefix(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    with DatasetWriter(tmp_path / "a.zip") as writer:
        for i in range(4):
            writer.add(f"bild-ä{i}.png", image(i, 16), label(i))
    data = (tmp_path / "a.zip").read_bytes()
    assert b"PK\x06\x06" in data  # the zip64 end record
    (tmp_path / "b.zip").write_bytes(b"#!/bin/sh\n" + data)
    for path in (tmp_path / "a.zip", tmp_path / "b.zip"):
        dataset = ImageDataset(path)
        assert [dataset.name(i) for i in range(4)] == [f"bild-ä{i}.png" for i in range(4)]
        assert np.array_equal(dataset.get(3)[0].permute(1, 2, 0), image(3, 16))


# ------------------------------------------------------------------------------------------- orders
def consumed(make, world, batch, steps, start=0):
    """What each process gets in its first steps."""
    return [
        [
            i
            for step in range(steps)
            for i in make().indices(start + step * batch * world, batch, rank, world)
        ]
        for rank in range(world)
    ]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_global_order_shows_every_image_once_per_epoch_over_all_processes(world):
    parts = consumed(lambda: EpochSampler(24, 5), world, 4, 24 // (4 * world) * 2)
    steps = [sum((part[k : k + 4] for part in parts), []) for k in range(0, len(parts[0]), 4)]
    flat = sum(steps, [])
    assert sorted(flat[:24]) == sorted(flat[24:48]) == list(range(24))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_shard_order_shows_every_image_once_per_epoch_over_all_processes(world):
    sizes = [5, 7, 4, 6, 3]
    starts = np.cumsum([0, *sizes])
    shards = [np.arange(a, b) for a, b in zip(starts[:-1], starts[1:], strict=True)]
    shard_of = {int(i): s for s, items in enumerate(shards) for i in items}
    sampler = ShardSampler(shards, 1, at_once=2)
    for epoch in range(3):
        parts = [[int(i) for i in sampler._make_order(epoch, rank, world)] for rank in range(world)]
        assert sorted(sum(parts, [])) == list(range(25))
        owners = [{shard_of[i] for i in part} for part in parts]
        assert sum(map(len, owners)) == 5  # no shard is read by two processes
        # each shard's images stand together with those of one other shard at most
        for part in parts:
            visits = [shard_of[i] for i in part]
            for shard in set(visits):
                span = visits[visits.index(shard) : len(visits) - visits[::-1].index(shard)]
                assert len(set(span)) <= 2
    whole = [sampler.indices(0, 60, rank, world) for rank in range(world)]
    for rank in range(world):
        assert (
            whole[rank]
            == sum((sampler._make_order(e, rank, world).tolist() for e in range(16)), [])[:60]
        )
        again = ShardSampler(shards, 1, at_once=2).indices(7 * world, 53, rank, world)
        assert again == whole[rank][7:]  # a resumed run
    with pytest.raises(UserError, match="5 shards cannot be shared by 6 processes"):
        sampler.indices(0, 1, 0, 6)


def test_loader_follows_the_shard_order_and_resumes(whole, tmp_path):
    write_shards(whole, tmp_path / "set", "zip", 4)
    dataset = ImageDataset(tmp_path / "set", mirror=True, shards_at_once=1)

    def run(start, steps):
        with BatchLoader(dataset, 4, seed=2, start=start, sampler=dataset.sampler(2)) as loader:
            return torch.cat([next(loader)["label"] for _ in range(steps)])

    everything = run(0, 5)
    assert torch.equal(run(8, 3), everything[8:])
    order = dataset.sampler(2).indices(0, 20)
    assert sorted(order) == list(range(20)) and torch.equal(everything, dataset.labels[order])
    seen = [dataset.name(i).split("/")[0] for i in order]
    # three shards, one after another
    assert len([1 for a, b in zip(seen, seen[1:], strict=False) if a != b]) == 2
    assert isinstance(ImageDataset(tmp_path / "set").sampler(2), EpochSampler)


# --------------------------------------------------------------------------------------------- tars
def test_tar_shards_are_the_set_they_came_from(whole, tmp_path):
    write_shards(whole, tmp_path / "tars", "tar", 4)
    names = sorted(file.name for file in (tmp_path / "tars").iterdir())
    assert names == ["dataset.json", "shard-000000.tar", "shard-000001.tar", "shard-000002.tar"]
    braces = f"{tmp_path}/tars/shard-{{000000..000002}}.tar"
    with_index = ImageDataset(tmp_path / "tars", mirror=True)
    assert same_items(with_index, ImageDataset(whole, mirror=True)) and with_index.has_masks
    assert with_index.record(7).subject == 7
    (tmp_path / "tars" / "dataset.json").unlink()
    for path in (tmp_path / "tars", braces):
        assert same_items(ImageDataset(path), ImageDataset(whole))
    assert not ImageDataset(tmp_path / "tars", masks=None).has_masks
    one = ImageDataset(tmp_path / "tars" / "shard-000001.tar")
    assert torch.equal(one.get(0)[0], ImageDataset(whole).get(4)[0])


def test_tars_are_read_once_per_epoch_and_few_are_held(whole, tmp_path, monkeypatch):
    from gghead.data import tar_shards

    write_shards(whole, tmp_path / "tars", "tar", 2)
    dataset = ImageDataset(tmp_path / "tars", cache_mb=0)
    assert isinstance(dataset.sampler(0), ShardSampler)
    assert dataset.backdrop is None  # own colors; looked for once, in the first files
    reads = []
    original = tar_shards.read_samples
    monkeypatch.setattr(
        tar_shards, "read_samples", lambda url: (reads.append(url), original(url))[1]
    )
    dataset.close()  # forgets what was read for that, and for the size
    for _ in range(2):  # two processes share the five files
        for rank in range(2):
            share = dataset.sampler(0)._make_order(0, rank, 2)
            for i in share:
                dataset.get(int(i))
            assert len(dataset._shards[0]._memory._shards) <= tar_shards._HELD
        assert len(reads) == len(set(reads)) == 5
        reads.clear()
        dataset.close()


def test_a_preview_reads_the_first_tars_only(whole, tmp_path):
    write_shards(whole, tmp_path / "set", "zip", 4)
    dataset = ImageDataset(tmp_path / "set", mirror=True, shards_at_once=1)
    assert set(dataset.preview(9, 0)) == {0, 1, 2, 3} and len(dataset.preview(9, 0)) == 9
    anywhere = ImageDataset(tmp_path / "set", mirror=True).preview(20, 0)
    assert sorted(anywhere) == list(range(20))


def test_training_from_tars(tmp_path):
    from gghead.training.cli.train_gan import main as train

    with DatasetWriter(tmp_path / "whole.zip") as writer:
        for i in range(10):
            writer.add(image_name(i), image(i, 32), label(i), mask(i, 32))
    write_shards(tmp_path / "whole.zip", tmp_path / "tars", "tar", 3)
    small = [
        "--set=generator.plane_resolution=16",
        "--set=generator.latent_resolution=8",
        "--set=stages.grid=16",
        "--set=generator.template=sphere",
        "--set=stages.image_size=32",
        "--cbase=128",
        "--cmax=8",
        "--batch=4",
        "--tick=0.008",
        "--snap=1",
        "--device=cpu",
        "--fp32=1",
        "--metrics=none",
    ]
    data, outdir = (
        f"--data={tmp_path}/tars/shard-{{000000..000003}}.tar",
        f"--outdir={tmp_path / 'runs'}",
    )
    result = CliRunner().invoke(train, [data, outdir, "--kimg=0.008", *small])
    assert result.exit_code == 0, result.output
    (run,) = (tmp_path / "runs").iterdir()
    again = CliRunner().invoke(train, [f"--resume={run}", "--kimg=0.016"])
    assert again.exit_code == 0 and "Done: 0.0 kimg" in again.output, again.output


def test_tar_files_written_by_others(tmp_path):
    folder = tmp_path / "tars"
    folder.mkdir()

    def write(members, name="a.tar"):
        from gghead.data.tar_shards import tar_member

        with tarfile.open(folder / name, "w") as archive:
            for member, data in members.items():
                archive.addfile(*tar_member(member, data))

    about = json.dumps({"label": label(2).tolist()}).encode()
    write(
        {
            "x/7.img.png": encode_png(image(7)),
            "x/7.json": about,
            "x/7.mask.png": encode_png(mask(7)),
            "t.txt": b"",
        }
    )
    dataset = ImageDataset(folder)
    assert len(dataset) == 1 and np.array_equal(dataset.get(0)[0].permute(1, 2, 0), image(7))
    assert np.array_equal(dataset.get(0)[1][0], mask(7)) and dataset.name(0) == "x/7.img.png"
    for members, sentence in (
        ({"1.png": encode_png(image(0))}, "1.png in .*a.tar has no camera label"),
        ({"1.txt": b""}, "holds no images"),
        ({"1.png": encode_png(image(0)), "1.json": b"{"}, "1.json in .* is not valid JSON"),
        (
            {"1.png": encode_png(image(0)[:4]), "1.json": about},
            "1.png in .* is 8x4; images must be square",
        ),
        ({"1.png": encode_png(image(0)), "1.json": b'{"label": [1, 2]}'}, "has 2 numbers"),
    ):
        write(members)
        with pytest.raises(UserError, match=sentence):
            ImageDataset(folder)
    write({"1.png": encode_png(image(0)), "1.json": about})
    data = (folder / "a.tar").read_bytes()
    (folder / "a.tar").write_bytes(data[:700])
    with pytest.raises(UserError, match="a.tar cannot be read .*cut off"):
        ImageDataset(folder)
    (folder / "a.tar").write_bytes(data)
    (folder / "dataset.json").write_text(
        json.dumps({"labels": [["a.tar/2.png", label(0).tolist()]]})
    )
    with pytest.raises(UserError, match="does not hold 2.png at its place"):
        ImageDataset(folder).get(0)


def test_tars_are_checked_before_they_are_tars(whole, tmp_path):
    write_shards(whole, tmp_path / "tars", "tar", 5)
    result = CliRunner().invoke(main, ["check", str(tmp_path / "tars")])
    assert result.exit_code == 1 and "before it is split into tar files" in result.output


# ------------------------------------------------------------------------------------------ command
def test_shard_command(whole, tmp_path):
    def shard(*options):
        return CliRunner().invoke(
            main, ["shard", f"--source={whole}", f"--dest={tmp_path / 'out'}", *options]
        )

    result = shard("--images-per-shard=3")
    assert result.exit_code == 0 and "4 shards" in result.output, result.output
    assert same_items(ImageDataset(whole), ImageDataset(tmp_path / "out"))
    again = shard("--format=tar")
    assert again.exit_code == 1 and "exists already" in again.output
    first = (tmp_path / "out" / "shard-000000.zip").read_bytes()
    write_shards(whole, tmp_path / "out2", "zip", 3)
    assert (tmp_path / "out2" / "shard-000000.zip").read_bytes() == first
    write_shards(whole, tmp_path / "t1", "tar", 3)
    write_shards(whole, tmp_path / "t2", "tar", 3)
    assert all(
        (tmp_path / "t2" / file.name).read_bytes() == file.read_bytes()
        for file in (tmp_path / "t1").iterdir()
    )


def test_shards_replace_shards_only_when_told_and_nothing_else_ever(whole, tmp_path):
    dest, told = tmp_path / "shards", []
    arguments = ["shard", f"--source={whole}", f"--dest={dest}", "--images-per-shard=3"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    before = sorted(path.name for path in dest.iterdir())
    (dest / before[0]).write_bytes(b"old")
    assert CliRunner().invoke(main, [*arguments, "--overwrite"]).exit_code == 0
    assert (
        sorted(path.name for path in dest.iterdir()) == before
        and (dest / before[0]).read_bytes() != b"old"
    )
    (dest / "thesis.tex").write_text("years of work")
    refused = CliRunner().invoke(main, [*arguments, "--overwrite"])
    assert (
        refused.exit_code == 1
        and "thesis.tex" in refused.output
        and (dest / "thesis.tex").is_file()
    )
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    write_shards(
        whole, tmp_path / "more", "tar", 3, progress=lambda done, total: told.append((done, total))
    )
    assert [done for done, _ in told] == list(range(1, told[0][1] + 1))


def test_what_is_overwritten_comes_back_if_the_new_shards_fail(whole, tmp_path, monkeypatch):
    dest = tmp_path / "shards"
    write_shards(whole, dest, "zip", 3)
    kept = {path.name: path.read_bytes() for path in dest.iterdir()}
    with zipfile.ZipFile(whole) as archive:
        broken = tmp_path / "broken.zip"
        with zipfile.ZipFile(broken, "w") as copy:
            for name in (
                archive.namelist()[1:]
                if archive.namelist()[0] != "dataset.json"
                else archive.namelist()[:-1]
            ):
                copy.writestr(name, archive.read(name))
    with pytest.raises(UserError):
        write_shards(broken, dest, "zip", 3, overwrite=True)
    assert {path.name: path.read_bytes() for path in dest.iterdir()} == kept


def test_a_broken_source_leaves_nothing_behind(whole, tmp_path):
    data = bytearray(whole.read_bytes())
    at = data.index(b"IDAT", len(data) // 3)
    data[at + 40] ^= 255
    whole.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        write_shards(whole, tmp_path / "out", "tar", 3)
    assert [file.name for file in tmp_path.iterdir()] == ["whole.zip"]
