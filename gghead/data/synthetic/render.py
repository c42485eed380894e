"""Pictures of synthetic people: geometry, visibility, paint and light, supersampled."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gghead.data.synthetic import accessories, hair, skin
from gghead.data.synthetic.identity import basis
from gghead.data.synthetic.noise import display, noise, power, step
from gghead.data.synthetic.person import Light, Person
from gghead.template import load_template, rasterize_triangles
from gghead.template.head_shape import EYEBALL
from gghead.template.mesh import Template
from gghead.template.rasterize import rasterize_samples

SUPERSAMPLING = 3  # samples per pixel and axis; odd, so that one lies at the pixel's centre
_PART = 1 << 13  # samples that are shaded together
SKIN, CLOTH, METAL, BUN = range(4)
_OCCLUSION_DIRECTIONS, _OCCLUSION_SIZE = 48, 160


@dataclass(frozen=True)
class Picture:
    """A rendered person; colors are not multiplied by alpha, and white where it is zero."""

    rgb: np.ndarray  # [R, R, 3] uint8
    alpha: np.ndarray  # [R, R] uint8
    # [R, R] float32, distance along the view axis at the pixel's centre, 0 outside
    depth: np.ndarray
    # [R, R, 2] float32 template coordinates at the pixel's centre, -1 where no skin is seen
    uv: np.ndarray


@dataclass(frozen=True)
class _Assets:
    template: Template
    modes: np.ndarray  # [K, V, 3]
    occlusion: np.ndarray  # [V] share of the sky that is seen
    shell: hair.Shell
    shell_modes: np.ndarray  # [K, W, 3]
    # shell coordinates (s, phi) of the head's vertices, [V] each
    scalp: tuple[np.ndarray, np.ndarray]


@functools.lru_cache(maxsize=1)
def _assets() -> _Assets:
    template = load_template("head")
    shell = hair.build_shell(template.vertices)
    scalp = shell.origins + shell.hanging[:, None] * shell.directions
    coordinates = hair.coordinates(template.vertices)
    return _Assets(
        template, basis(template.vertices), _occlusion(template), shell, basis(scalp), coordinates
    )


def _occlusion(template: Template) -> np.ndarray:  # [V]
    """Share of the sky, weighted by the cosine, that every vertex of the neutral head sees."""
    index = np.arange(_OCCLUSION_DIRECTIONS) + 0.5
    height, turn = 1 - 2 * index / _OCCLUSION_DIRECTIONS, index * np.pi * (1 + 5**0.5)
    flat = np.sqrt(1 - height**2)
    seen = total = np.zeros(len(template.vertices))
    for towards in np.stack([flat * np.cos(turn), height, flat * np.sin(turn)], -1):
        cosine = np.maximum((template.vertex_normals * towards).sum(1), 0)
        right = np.cross(towards, (0.3, 0.9, 0.3))
        right /= np.sqrt((right**2).sum())
        down = np.cross(towards, right)
        plane = np.stack([template.vertices @ right, template.vertices @ down], -1)
        plane = (plane + 0.75) / 1.5 * _OCCLUSION_SIZE
        depth = 2 - template.vertices @ towards
        face, weights = rasterize_triangles(
            plane, depth, template.faces, _OCCLUSION_SIZE, _OCCLUSION_SIZE
        )
        nearest = np.where(face >= 0, (depth[template.faces[face]] * weights).sum(-1), np.inf)
        column, row = np.clip(plane.astype(int), 0, _OCCLUSION_SIZE - 1).T
        seen = seen + cosine * (depth < nearest[row, column] + 0.02)
        total = total + cosine
    return seen / np.maximum(total, 1e-6)


def _morph(modes: np.ndarray, person: Person) -> np.ndarray:
    """The identity's offsets; a fixed order of additions, so that the result does not depend on a
    BLAS."""
    return np.einsum("k,kvc->vc", person.shape, modes)


def head_vertices(person: Person, expression: dict[str, float]) -> np.ndarray:  # [V, 3] world
    """Where the template's vertices are on this person (a beard aside)."""
    return _assets().template.posed(expression) + _morph(_assets().modes, person)


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:  # [V, 3] unit
    """Area-weighted vertex normals, component by component: several times faster than the
    template's own, which are better on coarse grids."""
    x, y, z = (np.ascontiguousarray(column)[faces.T] for column in vertices.T)  # each [3, F]
    ux, uy, uz, vx, vy, vz = (w[i] - w[0] for i in (1, 2) for w in (x, y, z))
    cross = (uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx)
    corners = faces.T.ravel()
    sums = [
        np.bincount(corners, np.tile(component, 3), minlength=len(vertices)) for component in cross
    ]
    return _unit(np.stack(sums)).T


@dataclass(frozen=True)
class _Mesh:
    vertices: np.ndarray  # [V, 3] world
    faces: np.ndarray  # [F, 3]
    head_faces: np.ndarray  # [H] the template's faces that the first H faces are
    normals: np.ndarray  # [V, 3]
    material: np.ndarray  # [F]
    place: np.ndarray  # [V, 3] on the neutral head
    posed: np.ndarray  # [V, 2] (x, y) there with the expression
    occlusion: np.ndarray  # [V]


def _solid(person: Person, expression: dict[str, float]) -> _Mesh:
    """Head, garment, glasses and bun as one mesh."""
    assets = _assets()
    neutral = assets.template.vertices
    buried = hair.buried(person, *assets.scalp)
    head_faces = np.nonzero(~buried[assets.template.faces].all(1))[0]
    moved = assets.template.posed(expression)
    vertices = moved + _morph(assets.modes, person)
    beard = skin.beard_mask(person, neutral.T)
    if beard.any() and person.beard != "stubble":
        lumps = 1 + 0.15 * noise(neutral[:, 0] * 60 + person.seed, neutral[:, 1] * 60)
        depth = 0.020 if person.beard == "full" else 0.010
        vertices = vertices + (beard * lumps * depth)[:, None] * assets.template.vertex_normals
    extras = [(accessories.garment(person), CLOTH)]
    if person.glasses != "none":
        extras.append((accessories.glasses(person, EYEBALL), METAL))
    if person.hair_style == "bun":
        extras.append((accessories.bun(), BUN))
    places, faces = accessories.merge(
        [(neutral, assets.template.faces[head_faces]), *(mesh for mesh, _ in extras)]
    )
    added = places[len(neutral) :]
    sizes = [len(head_faces), *(len(mesh[1]) for mesh, _ in extras)]
    shade = np.where(
        added[:, 1] < -0.2,
        0.55 + 0.45 * step(np.hypot(added[:, 0], added[:, 2] + 0.08), 0.16, 0.26),
        1.0,
    )
    placed = np.concatenate([vertices, added + _morph(basis(added), person)])
    extra_faces = faces[len(head_faces) :]
    normals = _normals(vertices, assets.template.faces)
    normals = np.concatenate(
        [normals, _normals(placed[len(neutral) :], extra_faces - len(neutral))]
    )
    return _Mesh(
        vertices=placed,
        faces=faces,
        head_faces=head_faces,
        normals=normals,
        material=np.repeat([SKIN, *(material for _, material in extras)], sizes),
        place=places,
        posed=np.concatenate([moved[:, :2], added[:, :2]]),
        occlusion=np.concatenate([assets.occlusion, shade]),
    )


@dataclass(frozen=True)
class Figure:
    """A person with an expression, ready to be seen from any side."""

    person: Person
    expression: dict[str, float]
    mesh: _Mesh
    # [V, 12] of the mesh, float32: place, posed, normal, vertex, occlusion
    table: np.ndarray
    # [W, 8] of the hair, float32: s, phi, normal, vertex
    hair_table: np.ndarray
    hair_faces: np.ndarray | None  # [G, 3]; None for a bald head


def pose(person: Person, expression: dict[str, float]) -> Figure:
    """Give a person an expression (blendshape weights)."""
    assets = _assets()
    mesh = _solid(person, expression)
    table = np.column_stack([mesh.place, mesh.posed, mesh.normals, mesh.vertices, mesh.occlusion])
    hair_table, hair_faces = np.zeros((0, 8)), None
    if person.hair_style != "bald":
        shell = assets.shell
        vertices = hair.vertices(person, shell) + _morph(assets.shell_modes, person)
        normals = _seamless_normals(vertices, shell)
        hair_table = np.column_stack([shell.s, shell.phi, normals, vertices])
        hair_faces = hair.visible_faces(person, shell)
    return Figure(
        person,
        expression,
        mesh,
        table.astype(np.float32),
        hair_table.astype(np.float32),
        hair_faces,
    )


def _project(points: np.ndarray, label: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel coordinates [N, 2] and depth [N]."""
    pose, k = label[:16].reshape(4, 4), label[16:].reshape(3, 3)
    camera = np.einsum("nk,kc->nc", points - pose[:3, 3], pose[:3, :3])
    x, y, z = camera.T
    return (
        np.stack([(k[0, 0] * x + k[0, 1] * y) / z + k[0, 2], k[1, 1] * y / z + k[1, 2]], -1) * size,
        z,
    )


def _spread(table: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Interpolate vertex values [V, A] at samples with corner indices [P, 3] and weights [P, 3]:
    [A, P] float32."""
    weights = weights.astype(np.float32)
    total = table[corners[:, 0]] * weights[:, :1]
    for i in (1, 2):
        total += table[corners[:, i]] * weights[:, i : i + 1]
    return np.ascontiguousarray(total.T)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # [3, P], [3, P] or [3] -> [P]
    """Product along the first axis; several times faster than a sum over it."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(vectors: np.ndarray) -> np.ndarray:  # [3, P]
    return vectors / np.sqrt(_dot(vectors, vectors) + 1e-20)


# [S * S, C] -> [R, R, C] sums over a pixel's samples
def _blocks(samples: np.ndarray, size: int) -> np.ndarray:
    grid = samples.reshape(size, size, -1)
    rows = functools.reduce(np.add, (grid[i::SUPERSAMPLING] for i in range(SUPERSAMPLING)))
    columns = (rows[:, i::SUPERSAMPLING] for i in range(SUPERSAMPLING))
    return functools.reduce(np.add, columns)


def _dome(normal: np.ndarray, light: Light) -> np.ndarray:  # [3, P] -> [3, P]
    return light.ground[:, None] + (light.sky - light.ground)[:, None] * (normal[1] * 0.5 + 0.5)


def _illuminate(
    albedo: np.ndarray,  # [3, P]
    normal: np.ndarray,  # [3, P]
    view: np.ndarray,  # [3, P] unit, towards the camera
    gloss: np.ndarray,  # [P]
    occlusion: np.ndarray,  # [P]
    light: Light,
    # [3] how far each color of light creeps round the terminator: red farthest under skin
    wrap: np.ndarray,
) -> np.ndarray:
    """Ambient dome with occlusion, two wrapped Lambert lights and their highlights."""
    total = albedo * _dome(normal, light) * occlusion
    wrap = wrap[:, None]
    for direction, color in ((light.key, light.key_color), (light.fill, light.fill_color)):
        lit = np.maximum((_dot(normal, direction) + wrap) / (1 + wrap), 0.0)
        lit *= np.sqrt(np.sqrt(lit)) * (0.35 + 0.65 * occlusion)
        half = _unit(view + direction[:, None])
        sharp = power(np.maximum(_dot(normal, half), 0.0), 26)
        total += (albedo * lit + 0.10 * gloss * sharp * occlusion) * (color * 1.15)[:, None]
    return total


def _hair_light(
    albedo: np.ndarray,  # [3, P]
    normal: np.ndarray,  # [3, P]
    view: np.ndarray,  # [3, P]
    occlusion: np.ndarray,  # [P]
    light: Light,
) -> np.ndarray:
    """Hair: soft diffuse light and a highlight across the strands (Kajiya and Kay 1989)."""
    down = np.array([0.0, -1.0, 0.0], np.float32)[:, None]
    tangent = _unit(down + normal[1] * normal + 1e-4)
    total = albedo * _dome(normal, light) * occlusion
    for direction, color in ((light.key, light.key_color), (light.fill, light.fill_color)):
        cosine = _dot(normal, direction)
        lit = np.maximum((cosine + 0.4) / 1.4, 0.0)
        along = _dot(tangent, _unit(view + direction[:, None]))
        sharp = power(np.maximum(1 - along * along, 0.0), 14)
        shine = (0.35 * albedo + 0.03) * (sharp * cosine.clip(0.0))
        total += (albedo * lit * 1.1 + shine) * occlusion * color[:, None]
    return total


def render(
    person: Person,
    expression: dict[str, float],  # blendshape weights
    light: Light,
    label: np.ndarray,  # [25] camera
    resolution: int,
) -> Picture:
    """Draw one person with one expression from one camera."""
    return draw_figure(pose(person, expression), light, label, resolution)


def draw_figure(figure: Figure, light: Light, label: np.ndarray, resolution: int) -> Picture:
    """Draw a posed person from one camera; `label` is [25]."""
    size = resolution * SUPERSAMPLING
    label = np.asarray(label, np.float64)
    mesh = figure.mesh
    xy, z = _project(mesh.vertices, label, size)
    pixels, face, weights = rasterize_samples(
        xy, z, mesh.faces, size, size, perspective=True, cull="back"
    )
    corners = mesh.faces[face]
    depth = np.full(size * size, np.inf)
    depth[pixels] = _dot(z[corners.T], weights.T)
    color = np.zeros((size * size, 3), np.float32)
    eye = label[[3, 7, 11]].astype(np.float32)
    layers = _hair_layers(figure, label, size, depth)
    if layers:
        seen = np.ones(size * size, bool)
        for _, hidden, _ in layers:
            seen[hidden] = False
        seen = seen[pixels]
        pixels, face, corners, weights = pixels[seen], face[seen], corners[seen], weights[seen]
    color[pixels] = _shade_solid(figure, light, face, corners, weights, eye)
    for values, hidden, inner in layers:
        for part in _parts(len(hidden)):
            light_there = _shade_hair(figure.person, light, values[:, part], inner, eye)
            color[hidden[part]] = display(light_there).T

    covered = np.isfinite(depth)
    alpha = _blocks(covered.astype(np.float32), size)[..., 0] / SUPERSAMPLING**2
    rgb = _blocks(color, size) / np.maximum(alpha * SUPERSAMPLING**2, 1e-9)[..., None]
    rgb = np.where(alpha[..., None] > 0, rgb, 1.0)
    middle = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    central = depth.reshape(size, size)[middle, middle]
    return Picture(
        rgb=np.rint(rgb * 255).astype(np.uint8),
        alpha=np.rint(alpha * 255).astype(np.uint8),
        depth=np.where(np.isfinite(central), central, 0).astype(np.float32),
        uv=_uv(mesh, pixels, face, weights, resolution),
    )


def _parts(count: int) -> Iterator[slice]:
    """Runs of samples short enough that what is computed for them stays in the cache."""
    return (slice(begin, begin + _PART) for begin in range(0, count, _PART))


# [P], [P], [P, 3] of the samples -> [R, R, 2]
def _uv(
    mesh: _Mesh, pixels: np.ndarray, face: np.ndarray, weights: np.ndarray, resolution: int
) -> np.ndarray:
    template = _assets().template
    skin_faces = face < len(mesh.head_faces)
    pixels, face, weights = pixels[skin_faces], face[skin_faces], weights[skin_faces]
    grid = np.full((resolution * SUPERSAMPLING,) * 2, -1)
    grid.reshape(-1)[pixels] = np.arange(len(pixels))
    middle = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    chosen = grid[middle, middle]
    uv = np.full((resolution, resolution, 2), -1, np.float32)
    corners = template.uv_faces[mesh.head_faces[face[chosen[chosen >= 0]]]]
    uv[chosen >= 0] = _spread(template.uvs, corners, weights[chosen[chosen >= 0]]).T
    return uv


def _hair_layers(figure: Figure, label: np.ndarray, size: int, depth: np.ndarray):
    """Outer and inner side of the shell: (interpolated values, pixels, is inner); ``depth`` is
    brought up to date.

    The inner side is drawn where the outer one is cut away, so no pixel is in both.
    """
    if figure.hair_faces is None:
        return []
    person, faces = figure.person, figure.hair_faces
    xy, z = _project(figure.hair_table[:, 5:8], label, size)
    found = []
    for inner, cull in ((False, "back"), (True, "front")):
        pixels, face, weights = rasterize_samples(
            xy, z, faces, size, size, perspective=True, cull=cull, limit=depth
        )
        values, shown = [], []
        for part in _parts(len(pixels)):
            corners = faces[face[part]]
            samples = _spread(figure.hair_table, corners, weights[part])
            kept = np.nonzero(hair.covers(person, samples[0], samples[1]))[0]
            values.append(samples[:, kept])
            shown.append(pixels[part][kept])
            depth[shown[-1]] = _dot(z[corners[kept].T], weights[part][kept].T)
        if values:
            found.append((np.concatenate(values, 1), np.concatenate(shown), inner))
    return found


def _seamless_normals(vertices: np.ndarray, shell: hair.Shell) -> np.ndarray:
    normals = _normals(vertices, shell.faces).reshape(-1, hair.COLUMNS + 1, 3)
    normals[:, 0] = normals[:, -1] = normals[:, 0] + normals[:, -1]
    return _unit(normals.reshape(-1, 3).T).T


@dataclass(frozen=True)
class _Surface:
    """What is seen at P samples, float32."""

    place: np.ndarray  # [3, P]
    posed: np.ndarray  # [2, P]
    normal: np.ndarray  # [3, P]
    view: np.ndarray  # [3, P] unit, towards the camera
    occlusion: np.ndarray  # [P]


# [P, 3] as displayed
def _shade_solid(
    figure: Figure,
    light: Light,
    face: np.ndarray,  # [P] index of the face
    corners: np.ndarray,  # [P, 3] its vertices
    weights: np.ndarray,  # [P, 3] of its corners
    eye: np.ndarray,  # [3] where the camera is
) -> np.ndarray:
    result = np.zeros((len(face), 3), np.float32)
    material = figure.mesh.material[face]
    for kind, shade in _SHADERS.items():
        samples = np.nonzero(material == kind)[0]
        for part in _parts(len(samples)):
            on = samples[part]
            values = _spread(figure.table, corners[on], weights[on])
            normal, view = _unit(values[5:8]), _unit(eye[:, None] - values[8:11])
            surface = _Surface(values[:3], values[3:5], normal, view, values[11])
            result[on] = display(shade(figure, light, surface)).T
    return result


def _shade_skin(figure: Figure, light: Light, surface: _Surface) -> np.ndarray:
    person, jaw = figure.person, figure.expression.get("jawOpen", 0.0)
    albedo, gloss = skin.paint(person, surface.place, surface.posed, jaw)
    s, phi = hair.coordinates(surface.place.T)
    hidden = 0.9 * hair.roots(person, s, phi)
    albedo = albedo + (person.hair[:, None] * 0.75 - albedo) * hidden
    sky = surface.occlusion * (1 - hair.shadow(person, s, phi))
    gloss = gloss * (1 - hidden)
    soft = np.array([0.42, 0.26, 0.22], np.float32)
    return _illuminate(albedo, surface.normal, surface.view, gloss, sky, light, soft)


def _shade_cloth(figure: Figure, light: Light, surface: _Surface) -> np.ndarray:
    person, (x, y, z) = figure.person, surface.place
    trim = step(y - person.collar + person.neckline * step(z, -0.1, 0.1), -0.030, -0.024)
    weave = 1 + 0.10 * noise(x * 70 + person.seed, y * 160)
    clothes = person.clothes[:, None]
    cloth = (clothes + (person.trim[:, None] - clothes) * trim) * weave
    return _dull(cloth, 0.0, 0.15, light, surface)


def _shade_metal(figure: Figure, light: Light, surface: _Surface) -> np.ndarray:
    frame = np.broadcast_to(figure.person.frame[:, None], surface.normal.shape)
    return _dull(frame, 3.0, 0.1, light, surface)


def _dull(
    albedo: np.ndarray, gloss: float, wrap: float, light: Light, surface: _Surface
) -> np.ndarray:
    return _illuminate(
        albedo,
        surface.normal,
        surface.view,
        np.full(albedo.shape[1], gloss, np.float32),
        surface.occlusion,
        light,
        np.full(3, wrap, np.float32),
    )


def _shade_bun(figure: Figure, light: Light, surface: _Surface) -> np.ndarray:
    x, y, z = surface.place
    around = np.arctan2(x, z + 0.19)
    strands = hair.paint(figure.person, y * 9 + 0.3 * around, around * 0.5)
    return _hair_light(strands, surface.normal, surface.view, surface.occlusion, light)


_SHADERS = {SKIN: _shade_skin, CLOTH: _shade_cloth, METAL: _shade_metal, BUN: _shade_bun}


def _shade_hair(
    person: Person, light: Light, values: np.ndarray, inner: bool, eye: np.ndarray
) -> np.ndarray:
    s, phi = values[:2]
    normal, view = _unit(values[2:5]), _unit(eye[:, None] - values[5:8])
    albedo = hair.paint(person, s, phi)
    if inner:
        return _hair_light(albedo, -normal, view, np.full(len(s), 0.28, np.float32), light)
    edge = step(hair.line(person, phi) - s, 0.0, 0.12)
    occlusion = (0.72 + 0.28 * edge) * (1 - 0.35 * step(s, hair.EQUATOR, hair.EQUATOR + 1.4))
    return _hair_light(albedo, normal, view, occlusion, light)
