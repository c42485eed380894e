"""Benchmarks: every subcommand prints a table and can write JSON."""

from torch_utils.cli import lazy_group

main = lazy_group(
    "Measure parts of the system on this machine.",
    {name: f"training.benchmarks.{name}"
     for name in ("raster", "train", "sample", "data", "encode", "compression", "avatar")},
)
