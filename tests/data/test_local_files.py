"""What strangers name: nothing in a folder, an archive or JSON starts a program or leads out of its
folder."""

import io
import json
import os
import tarfile
import threading
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.small_network import small_network
from PIL import Image

from gghead import checkpoints, video
from gghead.cameras import Cameras
from gghead.data import formats
from gghead.data.dataset import ImageDataset
from gghead.data.dataset_zip import DatasetWriter, image_name
from gghead.data.files import FolderSource, open_source
from gghead.data.local_files import open_below, open_local, points_outside, refuse_address
from gghead.data.shard_writer import write_shards
from gghead.data.tar_shards import read_samples, tar_member
from gghead.data.video_frames import VideoFrames
from gghead.data.zip_writer import encode_png
from gghead.torch_utils import config
from gghead.torch_utils.errors import UserError
from gghead.training.run import run_folder


def image(seed, size=8):
    return np.random.RandomState(seed).randint(0, 256, (size, size, 3), dtype=np.uint8)


LABEL = Cameras.orbit(0.1).label()[0].double().numpy()


@pytest.fixture
def tar(tmp_path):
    """The bytes of a tar with one labeled image."""
    with DatasetWriter(tmp_path / "one.zip") as writer:
        writer.add(image_name(0), image(0, 32), LABEL)
    write_shards(tmp_path / "one.zip", tmp_path / "one", "tar", 1)
    return (tmp_path / "one" / "shard-000000.tar").read_bytes()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder that is the present one, where a program that was started would leave its
    file."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    assert not list(tmp_path.rglob("pwned*")), "a name was run"


PIPES = ["pipe:touch pwned", "pipe:touch pwned;.tar", "pipe:touch pwned; cat {0..3}.tar"]
ADDRESSES = [
    "http://127.0.0.1:9/shard.tar",
    "https://host.invalid/a.zip",
    "file:/etc/passwd",
    "s3://bucket/{00..02}.tar",
]


@pytest.mark.parametrize("address", [*PIPES, *ADDRESSES])
def test_an_address_given_as_data_is_refused_in_one_sentence(here, address):
    for read in (ImageDataset, open_source, formats.read):
        with pytest.raises(UserError, match="reads as an address .* download"):
            read(address)


@pytest.mark.parametrize("command", ["train", "calc_metrics", "train_avatar", "train_encoder"])
def test_options_of_a_foreign_run_start_nothing(here, command):
    from gghead.training.avatar import config as avatar_config
    from gghead.training.cli import train_avatar as avatar
    from gghead.training.cli import train_encoder as encoder
    from gghead.training.cli.score_gan import main as calc_metrics
    from gghead.training.cli.train_gan import main as train
    from gghead.training.encoder import config as encoder_config
    from gghead.training.gan import config as presets

    main, preset, option = {
        "train": (train, presets.PRESETS["tiny"], "--resume"),
        "calc_metrics": (calc_metrics, presets.PRESETS["tiny"], "--network"),
        "train_avatar": (avatar.main, avatar_config.PRESETS["tiny"], "--resume"),
        "train_encoder": (encoder.main, encoder_config.PRESETS["tiny"], "--resume"),
    }[command]
    further = ["--metrics=swd2k"] if command == "calc_metrics" else []
    run = here / "run"
    run.mkdir()
    checkpoints.save(small_network(), run / "network-snapshot-000000.safetensors", done=0)
    run_folder.save_state(run, 0, {"trainer": {"step": 0}})
    for address in (*PIPES, *ADDRESSES):
        data = address if command == "train_avatar" else {"path": address}
        run_folder.write_options(run, config.replace(preset, {"data": data}))
        result = CliRunner().invoke(main, [f"{option}={run}", *further])
        assert result.exit_code == 1 and "Error: " in result.output, result.output
        assert "reads as an address" in result.output, result.output


@pytest.mark.parametrize("command", ["train_avatar", "train_encoder"])
def test_programs_that_only_a_run_names_are_not_loaded(here, command):
    from gghead.training.avatar import config as avatar_config
    from gghead.training.cli import train_avatar as avatar
    from gghead.training.cli import train_encoder as encoder
    from gghead.training.encoder import config as encoder_config

    main, preset = {
        "train_avatar": (avatar.main, avatar_config.PRESETS["tiny"]),
        "train_encoder": (encoder.main, encoder_config.PRESETS["tiny"]),
    }[command]
    (here / "net.pt").write_bytes(b"a program")
    data = str(here / "gone") if command == "train_avatar" else {"path": str(here / "gone")}
    run = here / "run"
    run.mkdir()
    run_folder.write_options(
        run, config.replace(preset, {"data": data, "loss": {"perceptual_net": "net.pt"}})
    )
    run_folder.save_state(run, 0, {"trainer": {"step": 0}})
    resumed = [
        CliRunner().invoke(main, [f"--resume={run}", *given])
        for given in ([], ["--perceptual-net=other.pt"], ["--perceptual-net=net.pt"])
    ]
    assert [result.exit_code for result in resumed] == [1, 1, 1]
    assert (
        "name the perceptual network net.pt, TorchScript, which is a program" in resumed[0].output
    )
    assert "was trained with --perceptual-net=net.pt, not other.pt" in resumed[1].output
    assert "gone does not exist" in resumed[2].output  # the run goes on
    address = "vgg:https://host.invalid/vgg.pth#sha256=" + 64 * "0"
    run_folder.write_options(
        run, config.replace(preset, {"data": data, "loss": {"perceptual_net": address}})
    )
    result = CliRunner().invoke(main, [f"--resume={run}"])
    assert result.exit_code == 1 and "which would be downloaded; if you trust it" in result.output


def test_files_of_a_folder_are_files_whatever_their_names_say(here, tar):
    names = [
        "pipe:touch pwned;.tar",
        "-rf.tar",
        "http:a.tar",
        "two\nlines.tar",
        "{0..9}.tar",
        "..tar",
        "*.tar",
    ]
    for name in names:
        (here / name).write_bytes(tar)
    dataset = ImageDataset(here)
    assert len(dataset) == len(names)
    for index in range(len(names)):
        assert np.array_equal(dataset.get(index)[0].permute(1, 2, 0), image(0, 32))
    for name in names:  # and as the one file that is named, relative to where one stands
        assert len(ImageDataset(name)) == 1


def test_pipes_devices_and_folders_are_no_tars(here, tar):
    os.mkfifo(here / "a.tar")
    for make, kind in (
        (lambda path: None, "pipe"),
        (lambda path: path.mkdir(), "folder"),
        (lambda path: path.symlink_to("/dev/zero"), "device"),
    ):
        make(here / "b.tar")
        first = "a.tar" if kind == "pipe" else "b.tar"
        with pytest.raises(UserError, match=f"{first} is a {kind}, not a file"):
            list(read_samples(str(here / first)))
        with pytest.raises(UserError, match="not a file"):
            ImageDataset(here)
        if (here / "b.tar").is_symlink():
            (here / "b.tar").unlink()
        elif (here / "b.tar").exists():
            (here / "b.tar").rmdir()


def test_a_pipe_without_a_writer_does_not_block(here):
    os.mkfifo(here / "a.zip")
    done = []
    worker = threading.Thread(
        target=lambda: done.append(pytest.raises(UserError, ImageDataset, here / "a.zip"))
    )
    worker.daemon = True
    worker.start()
    worker.join(20)
    assert done and "is a pipe" in str(done[0].value)


def folder_of(here, **content):
    """A folder with an image ``a.png`` and a dataset.json that says ``content``."""
    (here / "a.png").write_bytes(encode_png(image(0)))
    content = {"labels": [["a.png", LABEL.tolist()]], **content}
    (here / "dataset.json").write_text(json.dumps(content))
    return here


OUTSIDE = [
    "../secret.png",
    "/etc/hostname",
    "sub/../../secret.png",
    "..\\secret.png",
    "C:\\secret.png",
    "a\0.png",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_in_json_do_not_leave_the_folder(here, name):
    (here.parent / "secret.png").write_bytes(encode_png(np.full((8, 8), 255, np.uint8)))
    for content in ({"masks": {"a.png": name}}, {"frames": [{"file": "a.png", "mask": name}]}):
        with pytest.raises(UserError) as caught:
            ImageDataset(folder_of(here, **content)).get(0)
        assert "\0" not in str(caught.value)
        assert not formats.read(here).has_masks
    with pytest.raises(UserError, match="does not lie in"):
        FolderSource(here).read(name)


@pytest.mark.parametrize(
    "name", ["pipe:touch pwned", "http://127.0.0.1:9/a.png", "-a.png", "x" * 300]
)
def test_odd_names_in_json_are_names(here, name):
    with pytest.raises(UserError):
        ImageDataset(folder_of(here, masks={"a.png": name})).get(0)
    assert not formats.read(here).has_masks
    with pytest.raises((UserError, FileNotFoundError)):
        FolderSource(here).read(name)


def test_a_pipe_named_in_json_is_no_mask(here):
    os.mkfifo(here / "m.png")
    with pytest.raises(UserError):
        ImageDataset(folder_of(here, masks={"a.png": "m.png"})).get(0)
    with pytest.raises(UserError, match="is a pipe"):
        open_below(here, "m.png")


def test_links_to_files_are_followed_and_links_to_devices_are_not_listed(here):
    store = here.parent / "store"
    store.mkdir()
    (store / "real.png").write_bytes(encode_png(image(5)))
    folder_of(here)
    (here / "a.png").unlink()
    # sets are often made of links into a larger one
    (here / "a.png").symlink_to(store / "real.png")
    (here / "zero.png").symlink_to("/dev/zero")
    (here / "gone.png").symlink_to(store / "gone.png")
    (here / "up").symlink_to(here.parent, target_is_directory=True)
    assert FolderSource(here).names() == ["a.png", "dataset.json"]
    assert np.array_equal(ImageDataset(here).get(0)[0].permute(1, 2, 0), image(5))


def test_points_outside_knows_relative_names():
    assert all(map(points_outside, [*OUTSIDE, "..", "a/..", "\\a", "/", "a\n/../b"]))
    assert not any(
        map(
            points_outside,
            ["a.png", "a/b.png", "..a/b..c", "a..", "-a", "pipe:x", "a\nb", ".hidden"],
        )
    )


def test_existing_files_with_colons_are_no_addresses(here):
    (here / "pipe:x").write_bytes(b"")
    refuse_address("pipe:x")
    refuse_address("C:\\heads.zip")
    refuse_address("heads.zip")
    with pytest.raises(UserError):
        refuse_address("pipe:y")
    with open_local(here / "pipe:x") as file:
        assert file.read() == b""


def test_sentences_show_odd_names_as_escapes_on_one_line(here):
    (here / "red\x1b[31m\n.png").write_bytes(b"no image")
    folder_of(here, labels=[["red\x1b[31m\n.png", LABEL.tolist()]])
    (here / "a.png").unlink()
    with pytest.raises(UserError, match=r"red\\x1b\[31m\\n.png") as caught:
        ImageDataset(here)
    assert str(caught.value).isprintable()
    assert str(UserError("a\udcff")) == "a\\udcff" and str(UserError("plain ä")) == "plain ä"


def test_what_a_file_is_called_in_somebodys_json_decides_no_path(here):
    """A latent's own name, and those of subjects and expressions, become names of files and
    folders."""
    from gghead.latent import Latent

    latent = Latent(torch.zeros(1, 2, 8), info={"target": "../../pwned", "stage": "/etc/x"})
    assert latent.name == "_.._.._pwned-_etc_x"
    with zipfile.ZipFile(here / "a.zip", "w") as archive:
        archive.writestr("a_b.png", encode_png(image(0)))
    (here / "a.zip").write_bytes((here / "a.zip").read_bytes().replace(b"a_b.png", b"a\0b.png"))
    with pytest.raises(UserError, match=r"'a\\x00b.png', which points outside"):
        open_source(here / "a.zip")


# ---------------------------------------------------------------------------------------- tar files
def tar_of(path, *members):
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, data)
    return path


def linked(name, kind, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, None


def test_members_are_bytes_and_never_paths(here):
    about = json.dumps({"label": LABEL.tolist()}).encode()
    data = encode_png(image(1))
    names = ["/etc/x.png", "../../y.png", "pipe:touch pwned.png", "-z.png", "li\nne.png"]
    members = [
        tar_member(part, content)
        for name in names
        for part, content in ((name, data), (name[:-3] + "json", about))
    ]
    links = [
        linked("l.png", tarfile.SYMTYPE, "/etc/hostname"),
        linked("h.png", tarfile.LNKTYPE, "/etc/x.png"),
        linked("f.png", tarfile.FIFOTYPE, ""),
        linked("d.png", tarfile.CHRTYPE, ""),
    ]
    dataset = ImageDataset(tar_of(here / "a.tar", *members, *links))
    assert [dataset.name(i) for i in range(len(dataset))] == names
    assert sorted(file.name for file in here.iterdir()) == ["a.tar"]


def test_damage_in_the_middle_is_no_end(here, tar):
    about = json.dumps({"label": LABEL.tolist()}).encode()
    members = [
        tar_member(f"{i}.{kind}", data)
        for i in range(3)
        for kind, data in (("png", encode_png(image(i))), ("json", about))
    ]
    data = bytearray(tar_of(here / "a.tar", *members).read_bytes())
    assert len(list(read_samples(str(here / "a.tar")))) == 3
    with tarfile.open(here / "a.tar") as archive:
        header = archive.getmember("1.png").offset
    for change in (
        lambda: data.__setitem__(header + 150, data[header + 150] ^ 1),  # its checksum
        lambda: data.__delitem__(slice(header + 100, None)),
    ):
        change()
        (here / "b.tar").write_bytes(data)
        with pytest.raises(UserError, match="b.tar cannot be read .it is cut off, damaged"):
            list(read_samples(str(here / "b.tar")))
    # some writers leave out the two empty blocks
    (here / "c.tar").write_bytes((here / "a.tar").read_bytes()[:header])
    assert len(list(read_samples(str(here / "c.tar")))) == 1


def test_claims_of_absurd_sizes_cost_no_memory(here):
    huge = tarfile.TarInfo("a.png")
    huge.size = 1 << 50
    (here / "a.tar").write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    sparse = tarfile.TarInfo("a.png")
    sparse.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    # the real size of a file of holes
    block[483:495] = tarfile.itn(1 << 50, 12, tarfile.GNU_FORMAT)
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 8 * 32)
    (here / "b.tar").write_bytes(bytes(block) + bytes(1024))
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 1 << 50
    (here / "c.tar").write_bytes(long.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    nested = tarfile.TarInfo("x")
    nested.type, nested.size = tarfile.XHDTYPE, 512
    (here / "d.tar").write_bytes(
        (nested.tobuf(tarfile.GNU_FORMAT) + bytes(512)) * 3000 + bytes(1024)
    )
    for name in "acd":
        with pytest.raises(UserError, match=f"{name}.tar cannot be read"):
            list(read_samples(str(here / f"{name}.tar")))
    assert list(read_samples(str(here / "b.tar"))) == []


@pytest.mark.parametrize("kind", ["w:gz", "w:xz"])
def test_packed_tars_are_named_as_such(here, kind):
    with tarfile.open(here / "a.tar", kind) as archive:
        archive.addfile(*tar_member("a.png", bytes(100)))
    with pytest.raises(UserError, match="no unpacked tar file"):
        list(read_samples(str(here / "a.tar")))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{a,b}{1..2}.tar", ["a1.tar", "a2.tar", "b1.tar", "b2.tar"]),
        ("plain.tar", ["plain.tar"]),
        ("no.zip", []),
    ],
)
def test_brace_lists_name_files(here, text, names):
    from gghead.data.shards import tar_paths

    assert tar_paths(text) == names


@pytest.mark.parametrize(
    "text", ["{0..999999999}.tar", "{3..1}.tar", "{1..2.tar", "1}.tar", "{{1,2}}.tar"]
)
def test_brace_lists_that_cannot_be_meant_are_refused(here, text):
    with pytest.raises(UserError, match=r"shard-\{000000..000012\}.tar"):
        ImageDataset(text)


# ------------------------------------------------------------------------------ images and videos
def test_an_image_that_is_a_program_is_not_run(here, monkeypatch):
    buffer = io.BytesIO()
    Image.fromarray(image(0)).save(buffer, "eps")
    monkeypatch.setattr(
        "subprocess.Popen", lambda *args, **kwargs: pytest.fail("a program was started")
    )
    folder_of(here)
    (here / "a.png").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="a.png .* is not a readable image"):
        ImageDataset(here).get(0)


def test_a_format_string_in_a_name_is_a_name(here):
    with zipfile.ZipFile(here / "{rows}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a{0}.png", bytes(2**27))
    with pytest.raises(UserError, match=r"\{rows\}.zip is refused: a\{0\}.png would unpack"):
        ImageDataset(here / "{rows}.zip")


def test_a_name_with_brackets_finds_its_masks(here):
    with DatasetWriter(here / "a[1].zip") as writer:
        writer.add("x.png", image(0), LABEL)
    with zipfile.ZipFile(here / "a[1]_masks_modnet.zip", "w") as archive:
        archive.writestr("x.png", encode_png(np.full((8, 8), 255, np.uint8)))
    assert ImageDataset(here / "a[1].zip").has_masks


def test_names_of_videos_are_no_addresses(here):
    pytest.importorskip("av", reason="PyAV is not installed")
    frames = [np.full((16, 16, 3), 40 * i, np.uint8) for i in range(3)]
    for name in ("-y.mp4", "concat:a.mp4", "http:b.mp4"):
        video.save_video(frames, name)
        seen = VideoFrames(FolderSource(here.relative_to(here))).read(f"{name}#2")
        assert seen.shape == (16, 16, 3) and abs(int(seen.mean()) - 80) < 8
    assert {file.name for file in here.iterdir()} == {"-y.mp4", "concat:a.mp4", "http:b.mp4"}


def test_playlists_are_no_videos(here):
    pytest.importorskip("av", reason="PyAV is not installed")
    video.save_video([np.zeros((16, 16, 3), np.uint8)] * 2, here / "real.mp4")
    texts = {
        "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nreal.mp4\n#EXT-X-ENDLIST\n",
        "concat": "ffconcat version 1.0\nfile real.mp4\n",
    }
    for kind, text in texts.items():
        for suffix in (".mp4", ".mkv"):
            (here / f"{kind}{suffix}").write_text(text)
            with pytest.raises(UserError, match="is not a readable video"):
                VideoFrames(FolderSource(here)).read(f"{kind}{suffix}#0")
    with pytest.raises(UserError, match="is missing"):
        VideoFrames(FolderSource(here)).read("gone.mp4#0")
    with pytest.raises(UserError, match="does not lie in"):
        VideoFrames(FolderSource(here)).read("../real.mp4#0")
