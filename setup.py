"""Metadata stands in pyproject.toml; here is only ``python setup.py build_ext``, which builds the C++ rasteriser ahead
of its first use, for every SIMD level of this kind of processor."""

from setuptools import Command, setup


class BuildOperators(Command):
    """Compile the operator libraries into torch_utils/ops/prebuilt, from where installations and wheels take them."""

    description = "build the C++ operators for every SIMD level (needs torch, ninja and a C++ compiler)"
    user_options = [("inplace", "i", "accepted for habit's sake: they are always built in place")]
    boolean_options = ["inplace"]

    def initialize_options(self) -> None:
        self.inplace = True

    def finalize_options(self) -> None:
        self.inplace = True

    def run(self) -> None:
        from gghead.rendering.native_backend import LIBRARY
        from torch_utils.ops.native_build import build_ahead

        for path in build_ahead(LIBRARY):
            self.announce(f"built {path}", level=3)


setup(cmdclass={"build_ext": BuildOperators})
