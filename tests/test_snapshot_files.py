"""Which file a name stands for, and what is said about files that are no networks, without
torch."""

import json
import struct
from pathlib import Path

import pytest

from gghead.snapshot_files import (
    SHIPPED,
    expect_kind,
    latest_run,
    read_header,
    seen_yaws,
    snapshot_file,
)
from gghead.torch_utils.errors import UserError


def write_snapshot(path, metadata='{"format":"gghead/1","kind":"generator"}'):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = f'{{"__metadata__":{metadata}}}'.encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def test_a_shipped_name_is_that_network_and_a_path_is_what_lies_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snapshot = write_snapshot(tmp_path / "demo" / "network-snapshot-000007.safetensors")
    assert snapshot_file("demo") == SHIPPED["demo"]
    for name in ("./demo", Path("demo"), tmp_path / "demo", "demo/"):
        assert snapshot_file(name).samefile(snapshot)
    assert read_header(SHIPPED["demo"])["kind"] == "generator"


def test_newest_run_is_the_one_with_the_highest_number_and_a_snapshot(tmp_path):
    for run, name in (
        ("00009-a", "network-snapshot-000001"),
        ("00010-b", "network-snapshot-000000"),
        ("new", "network-snapshot-000005"),
        ("00012-avatar", "avatar-000001"),
    ):
        write_snapshot(tmp_path / run / f"{name}.safetensors")
    (tmp_path / "00011-c").mkdir()
    assert latest_run(tmp_path).name == "00010-b"
    with pytest.raises(UserError, match="no run with a network in .*00011-c yet.*network='demo'"):
        latest_run(tmp_path / "00011-c")
    with pytest.raises(UserError, match="is no run but holds 4; name one, such as .*new"):
        snapshot_file(tmp_path)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("head.ply", "is a head of splats, not the network that makes heads"),
        (
            "me.jpg",
            "is an image, not a network; .*`gghead invert` finds the head",
        ),
        ("film.mp4", "is a video, not a network"),
        ("film.webp", "is a video, not a network"),
        ("stylegan.pkl", "is a pickle, as StyleGAN, EG3D and GGHead write"),
        ("training-state-000001.pt", "is a state to continue a run from"),
        ("data.zip", "is a .zip file, not a network"),
        ("net.safetensors", "is truncated or no safetensors file"),
        ("notes", "is no safetensors file"),
    ],
)
def test_what_is_no_network_is_said_to_be_what_it_is(tmp_path, name, sentence):
    for content in (b"", b"ply", b"\xff" * 4000, b"{}" * 500):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=sentence) as error:
            read_header(snapshot_file(tmp_path / name))
        assert "train it again" not in str(error.value)


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        (
            '{"format":"gghead/1","kind":"avatar"}',
            "an avatar of one person, but a generator .*`gghead animate` takes it",
        ),
        (
            '{"format":"gghead/1","kind":"prior"}',
            "a prior over latents, but a generator of heads is needed here; ",
        ),
        ('{"format":"gghead/1","kind":"x"}', "a model of the unknown kind 'x'"),
        (
            '{"format":"gghead-latent/1"}',
            "holds a latent, not a network; give it as `latents=FILE`",
        ),
        ('{"format":"gghead-directions/1"}', "holds directions, not a network"),
        ('{"format":"pt"}', "has format 'pt', but this version reads 'gghead/1'"),
        ("null", "has format None"),
    ],
)
def test_models_of_another_kind_are_named(tmp_path, metadata, sentence):
    path = write_snapshot(tmp_path / "x.safetensors", metadata)
    with pytest.raises(UserError, match=sentence):
        expect_kind(path, read_header(path), "generator")


def test_the_yaws_that_the_data_had_are_read_where_a_file_says_them(tmp_path):
    header = {"format": "gghead/1", "kind": "generator"}
    for provenance, yaws in (
        (None, None),
        ({"dataset": "x.zip"}, None),
        ({"yaw": [-20, 22.9]}, (-20.0, 22.9)),
    ):
        said = {} if provenance is None else {"provenance": json.dumps(provenance)}
        path = write_snapshot(tmp_path / "x.safetensors", json.dumps(header | said))
        assert seen_yaws(path) == yaws


def test_a_reconstructor_holds_a_generator(tmp_path):
    path = write_snapshot(
        tmp_path / "x.safetensors", '{"format":"gghead/1","kind":"reconstructor"}'
    )
    expect_kind(path, read_header(path), "generator")
    expect_kind(path, read_header(path), None)
