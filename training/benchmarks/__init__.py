"""Benchmarks: every subcommand prints a table and can write JSON."""

from gghead.torch_utils.cli import lazy_group

main = lazy_group(
    "Measure parts of the system on this machine.",
    {
        name: f"gghead.training.benchmarks.{name}_cli"
        for name in ("raster", "train", "sample", "data", "encode", "compression", "avatar")
    },
)
