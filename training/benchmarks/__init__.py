"""Benchmarks: a module each with ``measure``, which prints a table and returns its figures.

Their options are those of ``gghead benchmark`` (``training/cli/benchmark.py``).
"""
