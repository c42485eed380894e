"""Which device a process takes."""

import pytest
import torch

from gghead.torch_utils import distributed
from gghead.torch_utils.distributed import Processes


@pytest.mark.parametrize(("wanted", "local", "device"), [
    ("cuda", None, "cuda:0"), ("cuda:1", None, "cuda:1"), ("cuda:1", "3", "cuda:3"), ("cpu", "3", "cpu"),
])
def test_a_named_gpu_is_taken_but_under_torchrun(wanted, local, device, monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    if local is not None:
        monkeypatch.setenv("LOCAL_RANK", local)
    assert distributed.start(torch.device(wanted)) == (Processes(), torch.device(device))
    assert taken == ([torch.device(device)] if "cuda" in wanted else [])
