"""Metadata stands in pyproject.toml; here is only ``python setup.py build_ext``, which builds the
C++ rasterizer ahead of its first use: for every SIMD level of this kind of processor, or with
``--native`` for the one at hand."""

from setuptools import Command, setup


class BuildOperators(Command):
    """Compile the operator libraries into torch_utils/ops/prebuilt, from where installations and
    wheels take them."""

    description = (
        "build the C++ operators for every SIMD level (needs torch, ninja and a C++ compiler)"
    )
    user_options = [
        ("inplace", "i", "accepted for habit's sake: they are always built in place"),
        ("native", None, "for this processor only"),
    ]
    boolean_options = ["inplace", "native"]

    def initialize_options(self) -> None:
        self.inplace, self.native = True, False

    def finalize_options(self) -> None:
        self.inplace = True

    def run(self) -> None:
        from gghead.rendering.native_backend import LIBRARY
        from gghead.torch_utils.ops.native_build import BuildError, build_ahead, level

        try:
            paths = build_ahead(LIBRARY, [level()] if self.native else None)
        except BuildError as error:
            raise SystemExit(f"The C++ operators were not built: {error}") from error
        for path in paths:
            self.announce(f"built {path}", level=3)


setup(cmdclass={"build_ext": BuildOperators})
