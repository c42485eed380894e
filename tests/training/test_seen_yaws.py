"""From which sides data show heads."""

import math

import pytest
import torch

from gghead.cameras import Cameras
from gghead.training.run.seen_yaws import seen_yaws


def cameras(degrees):
    return Cameras.orbit(torch.as_tensor(degrees, dtype=torch.float32).deg2rad(), 0.2)


@pytest.mark.parametrize(
    ("degrees", "seen"),
    [
        ([10], (10, 10)),
        ([-30, 0, 25], (-30, 25)),
        ([150, -140, 170], (150, 220)),  # behind the head
        (range(0, 360, 45), (-180, 180)),
        (range(0, 360, 60), (-180, 180)),
        (range(0, 281, 20), (0, 280)),
    ],
)
def test_the_stretch_is_the_narrowest_that_holds_the_cameras(degrees, seen):
    assert seen_yaws(cameras(list(degrees))) == pytest.approx(seen)


def test_few_wrong_labels_make_no_full_turn_and_a_tenth_of_true_ones_does():
    front = torch.linspace(-40, 40, 1000)
    around = torch.linspace(-180, 180, 120)
    assert seen_yaws(cameras(torch.cat([front, around[::20]]))) == pytest.approx((-40, 40), abs=1)
    assert seen_yaws(cameras(torch.cat([front, around]))) == (-180, 180)


def test_batches_of_any_shape_and_lens_count_alike():
    yaw = torch.tensor([[-0.5, 0.0], [0.25, 0.5]])
    degrees = round(math.degrees(0.5), 1)
    for focal in (1.5, 4.0):
        assert seen_yaws(Cameras.orbit(yaw, focal=focal)) == (-degrees, degrees)
