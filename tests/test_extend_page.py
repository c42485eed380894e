"""docs/howto/extend.md does what it says: its lines, put where it puts them, give a preset, a
reader and a loss."""

import importlib
import importlib.util
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import foreign_sequences
from helpers.places import ROOT

from gghead.cameras import Cameras
from gghead.data import formats
from gghead.data.formats.geometry import METERS_PER_UNIT
from gghead.training.cli import train_gan
from gghead.training.gan import config, losses, trainer

SMALL = {
    "z_dim": 8,
    "w_dim": 8,
    "plane_resolution": 16,
    "latent_resolution": 8,
    "cbase": 128,
    "cmax": 8,
}
GL_AXES = np.diag([1.0, -1.0, -1.0, 1.0])


def blocks(heading: str) -> list[str]:
    """The Python of a section."""
    text = (ROOT / "docs" / "howto" / "extend.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```", section, re.M | re.S)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads a module with a changed source in place of itself, for as long as the test runs."""

    def load(name, source):
        path = tmp_path / f"{name}.py"
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        package, _, last = name.rpartition(".")
        monkeypatch.setattr(importlib.import_module(package), last, module, raising=False)
        spec.loader.exec_module(module)
        return module

    return load


# Read and imported before anything is changed: what a changed config came into would keep it.
SOURCES = {
    module.__name__: Path(module.__file__).read_text(encoding="utf-8")
    for module in (config, losses, trainer, train_gan)
}
COMMAND, TRAINER = train_gan.__name__, trainer.__name__


def put_before(place: str, text: str, source: str) -> str:
    assert source.count(place) == 1, f"the page says where, but there is no one {place!r}"
    return source.replace(place, text + place)


def test_a_preset_is_offered_and_can_train(load):
    (wide,) = blocks("A preset")
    source = put_before("\nPRESETS = {", wide, SOURCES[config.__name__])
    changed = load(config.__name__, put_before(" _SMALL, ", " _WIDE,", source))
    changed.check(changed.PRESETS["wide"])
    assert changed.PRESETS["wide"].generator.cmax == 2 * changed.PRESETS["tiny"].generator.cmax
    shown = CliRunner().invoke(load(COMMAND, SOURCES[COMMAND]).main, ["--help"]).output
    assert "[tiny|wide|small|" in shown


def test_a_reader_finds_its_format_and_the_points_of_a_head(load, tmp_path, monkeypatch):
    reader, entry = blocks("A reader for a capture format")
    folder = tmp_path / "rig"
    example = foreign_sequences.insta(folder)
    theirs = json.loads((folder / "transforms.json").read_text())
    (folder / "transforms.json").unlink()
    frames = [
        {
            "file": frame["file_path"],
            "pose": (np.array(frame["transform_matrix"]) @ GL_AXES).tolist(),
        }
        for frame in theirs["frames"]
    ]
    k = [[theirs["fl_x"], 0, theirs["cx"]], [0, theirs["fl_y"], theirs["cy"]], [0, 0, 1]]
    mine = {"w": theirs["w"], "h": theirs["h"], "K": k, "frames": frames}
    (folder / "mine.json").write_text(json.dumps(mine))
    load("gghead.data.formats.mine", reader)
    table = {"mine": eval(entry, vars(formats)), **formats.FORMATS}
    monkeypatch.setattr(formats, "FORMATS", table)
    found = formats.read(folder)
    assert (found.format, found.kind) == ("mine", "captures")
    points = torch.from_numpy(example.points / METERS_PER_UNIT)
    for index in range(len(found)):
        seen, _ = found.cameras[index].project(points)
        wanted = example.pixels[example.names.index(found.name(index))]
        np.testing.assert_allclose(seen * torch.tensor(example.size), wanted, atol=1e-3)


def test_a_loss_has_an_option_acts_on_opacities_and_is_logged(load):
    function, field, term = blocks("A training loss")
    load(losses.__name__, f"{SOURCES[losses.__name__]}\n\n{function}")
    place = "\n\n@dataclass(frozen=True)\nclass OptimizerConfig"
    changed = load(config.__name__, put_before(place, field, SOURCES[config.__name__]))
    shown = CliRunner().invoke(load(COMMAND, SOURCES[COMMAND]).main, ["--help"]).output
    assert "--lambda-entropy" in shown and "Weight of the entropy of opacities" in shown
    source = put_before("        return terms\n", term, SOURCES[TRAINER])
    make_trainer = load(TRAINER, source).Trainer
    tiny = changed.PRESETS["tiny"]
    small = replace(
        tiny,
        generator=replace(tiny.generator, **SMALL, template="sphere", grid=16, image_size=16),
        discriminator=replace(tiny.discriminator, cbase=128, cmax=8),
        stages=(changed.Stage(image_size=16, grid=16),),
        batch=2,
    )
    label = Cameras.orbit(torch.zeros(2)).label()
    pixels = torch.full((2, 4, 16, 16), 200, dtype=torch.uint8)
    batch = {"image": pixels[:, :3], "alpha": pixels[:, 3:], "label": label}
    trainers = []
    for weight in (0.0, 10.0):
        loss = replace(tiny.loss, lambda_entropy=weight)
        trainers.append(make_trainer(replace(small, loss=loss), label))
        trainers[-1].step(batch)
    without, with_entropy = trainers
    assert "Loss/G/entropy" not in without.stats.collect()
    assert 0 < with_entropy.stats.collect()["Loss/G/entropy"]["mean"] <= math.log(2)
    gains = [trainer.G.decoder.to_planes[0].weight for trainer in trainers]
    assert not torch.equal(*gains)
