"""Head template: mesh, UV layout, texel maps and blendshapes.

`load_template("head")` is our procedural head; `"sphere"` and `"plane"` are for objects; a path
reads an OBJ with UVs.
"""

import functools
from pathlib import Path

from gghead.template.mesh import Template, load_obj, save_obj, vertex_normals
from gghead.template.rasterize import rasterize_triangles
from gghead.template.texels import TexelMaps
from gghead.torch_utils.errors import UserError

__all__ = [
    "BUILT_IN",
    "TexelMaps",
    "Template",
    "load_obj",
    "load_template",
    "rasterize_triangles",
    "save_obj",
    "vertex_normals",
]

BUILT_IN = ("head", "sphere", "plane")


def load_template(name_or_path: str | Path) -> Template:
    """The template `"head"`, `"sphere"` or `"plane"`, or any OBJ file with texture coordinates.

    Raises:
        UserError: an unknown name, or an OBJ that cannot be used (see `load_obj`).
    """
    if str(name_or_path) in BUILT_IN:
        return _built_in(str(name_or_path))
    if Path(name_or_path).suffix.lower() != ".obj":
        known = ", ".join(f"'{name}'" for name in BUILT_IN)
        raise UserError(
            f"Unknown template '{name_or_path}'; use {known} or the path of an .obj file with UVs."
        )
    return load_obj(name_or_path)


@functools.lru_cache(maxsize=len(BUILT_IN))
def _built_in(name: str) -> Template:
    if name == "head":
        from gghead.template.head import head

        return head()
    from gghead.template import mesh as primitives

    return {"sphere": primitives.sphere, "plane": primitives.plane}[name]()
