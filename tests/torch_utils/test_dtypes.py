"""Types of sums."""

import pytest
import torch

from gghead.torch_utils.checks import at_least_float32


@pytest.mark.parametrize(
    "given, becomes",
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.uint8, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_and_bytes_become_float32_and_float64_stays(given, becomes):
    assert at_least_float32(torch.ones(2, dtype=given)).dtype == becomes


def test_what_needs_no_change_is_not_copied():
    x = torch.ones(2)
    assert at_least_float32(x) is x
