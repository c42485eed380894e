"""Which views are given and which judge."""

import pytest
import torch

from gghead.cameras import Cameras
from gghead.data.captures import choose_views, spread
from gghead.torch_utils.errors import UserError

YAWS = [*range(-75, 76, 10), 90, -100, 180, 135]
NAMES = [f"{index:02d}" for index in range(20)]
CAMERAS = Cameras.orbit(torch.deg2rad(torch.tensor(YAWS, dtype=torch.float32)))


def test_spread_takes_the_middles_of_equal_parts():
    assert (
        spread("abcdefgh", 1) == ["e"]
        and spread("abcdefgh", 2) == ["c", "g"]
        and spread("abc", 3) == list("abc")
    )


def test_targets_are_the_same_for_all_counts_and_never_inputs():
    choice = choose_views(NAMES, CAMERAS, [1, 2, 4, 8, 12, 14, 16])
    assert choice.targets == ("02", "06", "10", "14")
    for count, chosen in choice.inputs.items():
        assert len(set(chosen)) == count and not set(chosen) & set(choice.targets)
    yaw = dict(zip(NAMES, YAWS, strict=True))
    assert abs(yaw[choice.inputs[1][0]]) <= 15
    left, right = choice.inputs[2]
    assert yaw[left] < -20 and yaw[right] > 20
    assert not set(choice.inputs[12]) & set(choice.behind)
    assert set(choice.inputs[16]) == set(NAMES) - set(choice.targets)
    assert set(choice.inputs[14]) & set(choice.behind) == {
        "16",
        "17",
    }, "those nearest the front come first"


def test_order_of_the_cameras_does_not_matter():
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0)).tolist()
    assert choose_views([NAMES[i] for i in order], CAMERAS[order], [4]) == choose_views(
        NAMES, CAMERAS, [4]
    )


def test_without_targets_all_views_in_front_may_be_inputs():
    assert choose_views(NAMES, CAMERAS, [16], targets=0).inputs[16] == tuple(NAMES[:16])


def test_too_much_is_refused_in_a_sentence():
    for counts, targets in (([17], 4), ([0], 4), ([1], 17)):
        with pytest.raises(UserError, match="20 views, 16 of them in front, cannot give"):
            choose_views(NAMES, CAMERAS, counts, targets)
