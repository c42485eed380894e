"""What is asked of the machine."""

import platform
import sys
from pathlib import Path

import pytest

from gghead.torch_utils import machine
from gghead.torch_utils.machine import keep_freed_memory, processor_features, processor_name

CPUINFO = """processor : 0
model name : Fast & Small
flags : sse avx2
processor : 1
model name : Fast & Small
flags : sse avx2
"""


def test_only_glibc_is_asked_to_keep_memory(monkeypatch):
    if sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc":
        assert keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


def test_a_processor_has_its_name_and_its_instructions_once(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: CPUINFO)
    assert processor_name() == "Fast & Small"
    assert processor_features() == "model name : Fast & Small\nflags : sse avx2"


@pytest.mark.parametrize("name", [processor_name, processor_features])
def test_a_processor_without_a_list_has_the_name_that_python_knows(name, monkeypatch):
    monkeypatch.setattr(machine, "_processor_lines", list)
    assert platform.machine() in name() or platform.processor() in name()


def test_a_system_without_cpuinfo_has_no_list(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert machine._processor_lines() == []
