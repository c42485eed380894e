"""What every test must leave as it found it."""

import os
import signal

import pytest
import torch

# what commands print must not depend on how fast this machine is
os.environ.setdefault("GGHEAD_PROGRESS", "off")
# Other programs on the machine must not decide how many threads a test computes with.
os.environ.setdefault("GGHEAD_THREADS", "fixed")
# A shell's background jobs ignore Ctrl-C, and so would the commands that tests start and stop with
# it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def gradients_stay_enabled():
    """A generator that is suspended inside ``torch.no_grad()`` turns gradients off for all that
    runs after it."""
    yield
    enabled = torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    assert enabled, "the test left gradients turned off"
