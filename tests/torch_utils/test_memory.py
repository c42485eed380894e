"""Keeping freed memory: asked of glibc only."""

import platform
import sys

from gghead.torch_utils.memory import keep_freed_memory


def test_only_glibc_is_asked(monkeypatch):
    if sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc":
        assert keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
