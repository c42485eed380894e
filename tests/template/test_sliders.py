"""Names of expressions: ARKit's and ICT-FaceKit's spelling, halves, tables, mistakes."""

import numpy as np
import pytest
import torch

from gghead.animation.animate import sliders
from gghead.template.sliders import ARKIT, Sliders, canonical, parse_weights

OWN = Sliders(("jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "cheekPuff"))


def test_arkit_has_52_names_and_the_template_most_of_them():
    assert len(ARKIT) == len(set(ARKIT)) == 52
    missing = set(ARKIT) - set(sliders().coefficient_names)
    assert missing == {"tongueOut", "mouthShrugUpper"} | {
        f"eyeLook{way}{side}" for way in ("Up", "Down", "In", "Out") for side in ("Left", "Right")
    }


def test_spellings_of_both_models():
    for name in ("eyeBlink_L", "EyeBlinkLeft", "eyeblinkleft", "EYEBLINK_L"):
        assert canonical(name) == "eyeBlinkLeft"
    assert canonical("Expr_0") == "Expr_0" and canonical("jawOpen") == "jawOpen"
    table, left_out = OWN.take(
        ("eyeBlink_R", "jawOpen", "noseSneer_L"), torch.tensor([[1.0, 0.5, 0.2]]), "It"
    )
    assert table.tolist() == [[0.5, 0, 1, 0]] and left_out == ("noseSneer_L",)
    # nothing is lost where it is zero
    assert OWN.take(("noseSneer_L",), torch.zeros(2, 1), "It")[1] == ()
    both, _ = OWN.take(("eyeBlink",), torch.tensor([[0.7]]), "It")
    assert both.tolist() == [[0, pytest.approx(0.7), pytest.approx(0.7), 0]]
    ict = Sliders(("eyeBlink_L", "eyeBlink_R"))
    assert ict.take(("eyeBlinkLeft",), torch.ones(1, 1), "It")[0].tolist() == [[1, 0]]


def test_tables_of_every_form():
    expected = [[0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
    assert OWN.table({"jawOpen": [0, 1], "eyeBlink_L": 1})[0].tolist() == expected
    assert (
        OWN.table({"jawOpen": np.array([0.0, 1.0]), "eyeBlinkLeft": torch.tensor(1.0)})[0].tolist()
        == expected
    )
    assert OWN.table(torch.tensor(expected))[0].tolist() == expected
    assert (
        OWN.table(torch.tensor(expected)[:, :2], names=("jawOpen", "eyeBlinkLeft"))[0].tolist()
        == expected
    )
    assert OWN.table("eyeBlinkLeft=1, jawOpen=0.5,")[0].tolist() == [[0.5, 1, 0, 0]]
    assert OWN.table({})[0].tolist() == [[0, 0, 0, 0]]
    assert parse_weights("a=1,b=-0.5") == {"a": 1.0, "b": -0.5}


@pytest.mark.parametrize(
    "weights, sentence",
    [
        ({"jawOpn": 1.0}, "'jawOpn', which this head has no shape for; did you mean 'jawOpen'"),
        ({"eyeBlink_m": 1.0}, "did you mean 'eyeBlinkLeft'"),
        ({"AU12": 1.0}, "it has jawOpen, eyeBlinkLeft"),
        (
            {"jawOpen": [1, 2, 3], "cheekPuff": [1, 2]},
            r"one number or one per frame, but there are \[2, 3\]",
        ),
        ({"jawOpen": []}, "one number or one per frame"),
        ({"jawOpen": float("nan")}, "must be finite"),
        (torch.zeros(2, 3), r"must have the shape \[T, 4\], but it is \[2, 3\]"),
        ("jawOpen", "'jawOpen' is no weight; write NAME=NUMBER"),
        ("jawOpen=x", "'jawOpen=x' is no weight"),
        ("=1", "'=1' is no weight"),
        ("jawOpen=1,jawOpen=2", "given twice"),
        (" , ", "No weight is given"),
    ],
)
def test_mistakes_are_a_sentence(weights, sentence):
    with pytest.raises(ValueError, match=sentence):
        OWN.table(weights)


def test_names_of_both_halves_are_known():
    halves = Sliders(("mouthSmile_L", "mouthSmile_R", "twist_L"))
    assert (
        halves.knows("mouthSmile") and halves.knows("mouthSmileLeft") and not halves.knows("twist")
    )


def test_halves_move_what_is_undivided_here_by_their_mean():
    table, left_out = OWN.take(("cheekPuff_L", "cheekPuffRight"), torch.tensor([[0.5, 1.0]]), "It")
    assert table.tolist() == [[0, 0, 0, 0.75]] and left_out == ()


def test_matrix_says_what_moves_what():
    sliders = Sliders(("jawOpen", "cheekPuffLeft", "cheekPuffRight"))
    rows = sliders.matrix(["cheekPuff", "jawOpen", "expr7", "tongueOut"])
    assert rows.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert sliders.matrix([]).shape == (0, 3)
