"""A posed person as meshes: head with expression, garment, glasses, hair."""

import functools
from dataclasses import dataclass

import numpy as np

from gghead.data.synthetic import accessories, hair, mouth, skin
from gghead.data.synthetic.eyes import Eyes, gaze_direction
from gghead.data.synthetic.identity import basis
from gghead.data.synthetic.light import unit
from gghead.data.synthetic.noise import noise, step
from gghead.data.synthetic.person import Light, Person
from gghead.data.synthetic.visibility import Visibility, compute_visibility
from gghead.template import load_template
from gghead.template.head_shape import EYEBALL
from gghead.template.mesh import Template

SKIN, CLOTH, METAL, TIED = range(4)
_EYEBALLS = np.stack([EYEBALL, EYEBALL * [-1, 1, 1]])


@dataclass(frozen=True)
class Assets:
    template: Template
    modes: np.ndarray  # [K, V, 3]
    visibility: Visibility
    occlusion: np.ndarray  # [V] share of the sky that is seen
    eye_modes: np.ndarray  # [K, 2, 3] of the eyeballs' middles
    lips: mouth.Lips
    around_mouth: np.ndarray  # [V] bool
    shell: hair.Shell
    shell_modes: np.ndarray  # [K, W, 3]
    # shell coordinates (s, phi) of the head's vertices, [V] each
    scalp: tuple[np.ndarray, np.ndarray]


@functools.lru_cache(maxsize=1)
def load_assets() -> Assets:
    template = load_template("head")
    shell = hair.build_shell(template.vertices)
    scalp = shell.origins + shell.hanging[:, None] * shell.directions
    coordinates = hair.coordinates(template.vertices)
    visibility = compute_visibility(template)
    return Assets(
        template=template,
        modes=basis(template.vertices),
        visibility=visibility,
        occlusion=visibility.sky(),
        eye_modes=basis(_EYEBALLS),
        lips=mouth.find_lips(template),
        around_mouth=mouth.near_lips(template.vertices),
        shell=shell,
        shell_modes=basis(scalp),
        scalp=coordinates,
    )


def morph(modes: np.ndarray, person: Person) -> np.ndarray:
    """The identity's offsets.

    The additions have a fixed order, so that the result does not depend on a BLAS.
    """
    return np.einsum("k,kvc->vc", person.shape, modes)


def head_vertices(person: Person, expression: dict[str, float]) -> np.ndarray:  # [V, 3] world
    """Where the template's vertices are on this person (a beard aside)."""
    return load_assets().template.pose(expression) + morph(load_assets().modes, person)


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:  # [V, 3] unit
    """Area-weighted vertex normals, component by component.

    Several times faster than the template's own, which are better on coarse grids.
    """
    x, y, z = (np.ascontiguousarray(column)[faces.T] for column in vertices.T)  # each [3, F]
    ux, uy, uz, vx, vy, vz = (w[i] - w[0] for i in (1, 2) for w in (x, y, z))
    cross = (uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx)
    corners = faces.T.ravel()
    sums = [
        np.bincount(corners, np.tile(component, 3), minlength=len(vertices)) for component in cross
    ]
    return unit(np.stack(sums)).T


@dataclass(frozen=True)
class Mesh:
    vertices: np.ndarray  # [V, 3] world
    faces: np.ndarray  # [F, 3]
    head_faces: np.ndarray  # [H] the template's faces that the first H faces are
    normals: np.ndarray  # [V, 3]
    material: np.ndarray  # [F]
    place: np.ndarray  # [V, 3] on the neutral head
    posed: np.ndarray  # [V, 2] (x, y) there with the expression
    occlusion: np.ndarray  # [V] share of the sky
    lit: np.ndarray  # [V] share of the key light
    around_mouth: np.ndarray  # [V] bool
    gap: mouth.Gap


def _solid(person: Person, expression: dict[str, float], light: Light) -> Mesh:
    """Head, garment, glasses and bun as one mesh."""
    assets = load_assets()
    neutral = assets.template.vertices
    buried = hair.is_buried(person, *assets.scalp)
    head_faces = np.nonzero(~buried[assets.template.faces].all(1))[0]
    moved = assets.template.pose(expression)
    vertices = moved + morph(assets.modes, person)
    beard = skin.beard_mask(person, neutral.T)
    if beard.any() and person.beard != "stubble":
        lumps = 1 + 0.15 * noise(neutral[:, 0] * 60 + person.seed, neutral[:, 1] * 60)
        beard = beard * beard  # the edge rises inside what is painted
        depth = 0.013 if person.beard == "full" else 0.008
        vertices = vertices + (beard * lumps * depth)[:, None] * assets.template.vertex_normals
    garment = accessories.garment(person)
    extras = [(garment, CLOTH), (accessories.lining(garment), CLOTH)]
    if person.glasses != "none":
        extras.append((accessories.glasses(person, EYEBALL), METAL))
    if person.hair_style in hair.TIED:
        extras.append((accessories.tied_hair(person), TIED))
    places, faces = accessories.merge(
        [(neutral, assets.template.faces[head_faces]), *(mesh for mesh, _ in extras)]
    )
    added = places[len(neutral) :]
    sizes = [len(head_faces), *(len(mesh[1]) for mesh, _ in extras)]
    counts = [len(mesh[0]) for mesh, _ in extras]
    # cloth lies in the chin's shade, its lining in the dark
    x, _, z = garment[0].T
    shade = np.ones(len(added))
    shade[: counts[0]] = 0.55 + 0.45 * step(np.hypot(x, z + 0.08), 0.16, 0.26)
    shade[counts[0] : counts[0] + counts[1]] = 0.25
    placed = np.concatenate([vertices, added + morph(basis(added), person)])
    extra_faces = faces[len(head_faces) :]
    normals = _normals(vertices, assets.template.faces)
    normals = np.concatenate(
        [normals, _normals(placed[len(neutral) :], extra_faces - len(neutral))]
    )
    return Mesh(
        vertices=placed,
        faces=faces,
        head_faces=head_faces,
        normals=normals,
        material=np.repeat([SKIN, *(material for _, material in extras)], sizes),
        place=places,
        posed=np.concatenate([moved[:, :2], added[:, :2]]),
        occlusion=np.concatenate([assets.occlusion, shade]),
        lit=np.concatenate([assets.visibility.soft_light(light.key), shade]),
        around_mouth=np.concatenate([assets.around_mouth, np.zeros(len(added), bool)]),
        gap=mouth.find_gap(assets.lips, moved),
    )


@dataclass(frozen=True)
class Figure:
    """A person with an expression, ready to be seen from any side."""

    person: Person
    expression: dict[str, float]
    light: Light
    mesh: Mesh
    eyes: Eyes
    # [V, 13] of the mesh, float32: place, posed, normal, vertex, occlusion, lit
    table: np.ndarray
    # [W, 9] of the mouth's inside, float32: place, normal, vertex; None while it is shut
    mouth_table: np.ndarray | None
    # [W, 8] of the hair, float32: s, phi, normal, vertex; None for a bald head
    hair_table: np.ndarray | None
    hair_faces: np.ndarray  # [G, 3]


def pose(
    person: Person,
    expression: dict[str, float],  # blendshape weights
    light: Light,
    gaze: tuple[float, float] = (0.0, 0.0),  # radians to the subject's left, upwards
) -> Figure:
    """Give a person an expression, a gaze and a light."""
    assets = load_assets()
    mesh = _solid(person, expression, light)
    table = np.column_stack(
        [mesh.place, mesh.posed, mesh.normals, mesh.vertices, mesh.occlusion, mesh.lit]
    )
    centers = _EYEBALLS + morph(assets.eye_modes, person)
    mouth_table = None
    if mesh.gap.opening > 0.0024:
        inside = mouth.interior()
        vertices = mouth.posed_interior(expression) + morph(inside.modes, person)
        normals = _normals(vertices, inside.faces)
        mouth_table = np.column_stack([inside.place, normals, vertices]).astype(np.float32)
    hair_table, hair_faces = None, np.zeros((0, 3), int)
    if person.hair_style not in hair.SHAVED:
        shell = assets.shell
        vertices = hair.vertices(person, shell) + morph(assets.shell_modes, person)
        normals = _seamless_normals(vertices, shell)
        hair_table = np.column_stack([shell.s, shell.phi, normals, vertices]).astype(np.float32)
        hair_faces = hair.visible_faces(person, shell)
    return Figure(
        person=person,
        expression=expression,
        light=light,
        mesh=mesh,
        eyes=Eyes(centers.astype(np.float32), gaze_direction(*gaze)),
        table=table.astype(np.float32),
        mouth_table=mouth_table,
        hair_table=hair_table,
        hair_faces=hair_faces,
    )


def _seamless_normals(vertices: np.ndarray, shell: hair.Shell) -> np.ndarray:
    normals = _normals(vertices, shell.faces).reshape(-1, hair.COLUMNS + 1, 3)
    normals[:, 0] = normals[:, -1] = normals[:, 0] + normals[:, -1]
    return unit(normals.reshape(-1, 3).T).T
