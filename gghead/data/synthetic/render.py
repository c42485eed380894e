"""Pictures of synthetic people: geometry, visibility, paint and light, supersampled."""

import functools
from dataclasses import dataclass

import numpy as np

from gghead.data.synthetic import accessories, hair, skin
from gghead.data.synthetic.identity import basis
from gghead.data.synthetic.noise import display, noise, step
from gghead.data.synthetic.person import Light, Person
from gghead.template import load_template, rasterize_triangles
from gghead.template.head_shape import EYEBALL
from gghead.template.mesh import Template

SUPERSAMPLING = 3  # samples per pixel and axis; odd, so that one lies at the pixel's centre
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
    """The identity's offsets.

    A fixed order of additions, so that the result does not depend on a BLAS.
    """
    return np.einsum("k,kvc->vc", person.shape, modes)


def head_vertices(person: Person, expression: dict[str, float]) -> np.ndarray:  # [V, 3] world
    """Where the template's vertices are on this person (a beard aside)."""
    return _assets().template.posed(expression) + _morph(_assets().modes, person)


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:  # [V, 3] unit
    """Area-weighted vertex normals, component by component.

    They are several times faster than the template's own, which are better on coarse grids.
    """
    x, y, z = (np.ascontiguousarray(column)[faces.T] for column in vertices.T)  # each [3, F]
    ux, uy, uz, vx, vy, vz = (w[i] - w[0] for i in (1, 2) for w in (x, y, z))
    cross = (uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx)
    corners = faces.T.ravel()
    sums = [
        np.bincount(corners, np.tile(component, 3), minlength=len(vertices)) for component in cross
    ]
    return _unit(np.stack(sums, -1))


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
    beard = skin.beard_mask(person, neutral)
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


def _project(points: np.ndarray, label: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel coordinates [N, 2] and depth [N]."""
    pose, k = label[:16].reshape(4, 4), label[16:].reshape(3, 3)
    camera = np.einsum("nk,kc->nc", points - pose[:3, 3], pose[:3, :3])
    x, y, z = camera.T
    return (
        np.stack([(k[0, 0] * x + k[0, 1] * y) / z + k[0, 2], k[1, 1] * y / z + k[1, 2]], -1) * size,
        z,
    )


def _spread(values: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Interpolate vertex values [V, A] at samples.

    Their corner indices are [P, 3], their weights [P, 3], float32.
    """
    values, weights = values.astype(np.float32), weights.astype(np.float32)
    total = values[corners[:, 0]] * weights[:, :1]
    for i in (1, 2):
        total += values[corners[:, i]] * weights[:, i : i + 1]
    return total


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # [P, 3], [P, 3] or [3] -> [P]
    """Row-wise product; several times faster than a sum over an axis of three."""
    return a[:, 0] * b[..., 0] + a[:, 1] * b[..., 1] + a[:, 2] * b[..., 2]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt(_dot(vectors, vectors) + 1e-20)[:, None]


# [S * S, C] -> [R, R, C] sums over a pixel's samples
def _blocks(samples: np.ndarray, size: int) -> np.ndarray:
    grid = samples.reshape(size, size, -1)
    rows = functools.reduce(np.add, (grid[i::SUPERSAMPLING] for i in range(SUPERSAMPLING)))
    columns = (rows[:, i::SUPERSAMPLING] for i in range(SUPERSAMPLING))
    return functools.reduce(np.add, columns)


def _illuminate(
    albedo: np.ndarray,  # [P, 3]
    normal: np.ndarray,  # [P, 3]
    view: np.ndarray,  # [P, 3] unit, towards the camera
    gloss: np.ndarray,  # [P]
    occlusion: np.ndarray,  # [P]
    light: Light,
    # [3] how far each color of light creeps round the terminator: red farthest under skin
    wrap: np.ndarray,
) -> np.ndarray:
    """Ambient dome with occlusion, two wrapped Lambert lights and their highlights."""
    up = (normal[:, 1] * 0.5 + 0.5)[:, None]
    open_sky = occlusion[:, None]
    total = albedo * (light.ground + (light.sky - light.ground) * up) * open_sky
    for direction, color in ((light.key, light.key_color), (light.fill, light.fill_color)):
        cosine = _dot(normal, direction)[:, None]
        lit = (
            np.maximum((cosine + wrap) / (1 + wrap), 0.0) ** 1.3
            * (0.35 + 0.65 * occlusion)[:, None]
        )
        half = _unit(view + direction)
        sharp = np.maximum(_dot(normal, half), 0.0) ** 26
        total += (albedo * lit + (0.10 * gloss * sharp * occlusion)[:, None]) * color * 1.15
    return total


def _hair_light(
    albedo: np.ndarray,  # [P, 3]
    normal: np.ndarray,  # [P, 3]
    view: np.ndarray,  # [P, 3]
    occlusion: np.ndarray,  # [P]
    light: Light,
) -> np.ndarray:
    """Hair: soft diffuse light and a highlight across the strands (Kajiya and Kay 1989)."""
    down = np.array([0.0, -1.0, 0.0], np.float32)
    tangent = _unit(down + normal[:, 1:2] * normal + 1e-4)
    up = (normal[:, 1] * 0.5 + 0.5)[:, None]
    total = albedo * (light.ground + (light.sky - light.ground) * up) * occlusion[:, None]
    for direction, color in ((light.key, light.key_color), (light.fill, light.fill_color)):
        lit = np.maximum((_dot(normal, direction) + 0.4) / 1.4, 0.0)[:, None]
        along = _dot(tangent, _unit(view + direction))
        sharp = np.maximum(1 - along * along, 0.0) ** 14
        shine = (0.35 * albedo + 0.03) * (sharp * _dot(normal, direction).clip(0.0))[:, None]
        total += (albedo * lit * 1.1 + shine) * occlusion[:, None] * color
    return total


def render(
    person: Person,
    expression: dict[str, float],  # blendshape weights
    light: Light,
    label: np.ndarray,  # [25] camera
    resolution: int,
) -> Picture:
    """Draw one person with one expression from one camera."""
    size = resolution * SUPERSAMPLING
    label = np.asarray(label, np.float64)
    mesh = _solid(person, expression)
    xy, z = _project(mesh.vertices, label, size)
    face, weights = rasterize_triangles(
        xy, z, mesh.faces, size, size, perspective=True, cull="back"
    )
    face, weights = face.ravel(), weights.reshape(-1, 3)
    hit = np.nonzero(face >= 0)[0]
    depth = np.full(size * size, np.inf)
    depth[hit] = _dot(z[mesh.faces[face[hit]]], weights[hit])
    color = np.zeros((size * size, 3), np.float32)

    layers = _hair_layers(person, label, size, depth) if person.hair_style != "bald" else []
    for _, pixels, _ in layers:
        face[pixels] = -1  # hidden by hair
    hit = np.nonzero(face >= 0)[0]
    eye = label[[3, 7, 11]].astype(np.float32)
    color[hit] = _shade_solid(person, expression, light, mesh, face[hit], weights[hit], eye)
    for values, pixels, inner in layers:
        color[pixels] = _shade_hair(person, light, values, inner, eye)

    covered = np.isfinite(depth)
    color[covered] = display(color[covered])
    alpha = _blocks(covered.astype(np.float32), size)[..., 0] / SUPERSAMPLING**2
    rgb = _blocks(color, size) / np.maximum(alpha * SUPERSAMPLING**2, 1e-9)[..., None]
    rgb = np.where(alpha[..., None] > 0, rgb, 1.0)
    middle = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    return Picture(
        rgb=np.rint(rgb * 255).astype(np.uint8),
        alpha=np.rint(alpha * 255).astype(np.uint8),
        depth=np.where(covered, depth, 0).astype(np.float32).reshape(size, size)[middle, middle],
        uv=_uv(
            mesh,
            face.reshape(size, size)[middle, middle],
            weights.reshape(size, size, 3)[middle, middle],
        ),
    )


def _uv(mesh: _Mesh, face: np.ndarray, weights: np.ndarray) -> np.ndarray:  # [R, R, 2]
    template = _assets().template
    on_skin = (face >= 0) & (face < len(mesh.head_faces))
    corners = template.uv_faces[mesh.head_faces[np.where(on_skin, face, 0)]]
    uv = (template.uvs[corners] * weights[..., None]).sum(-2)
    return np.where(on_skin[..., None], uv, -1).astype(np.float32)


def _hair_layers(person: Person, label: np.ndarray, size: int, depth: np.ndarray):
    """Outer and inner side of the shell: (interpolated values, pixels, is inner).

    ``depth`` is brought up to date.

    The inner side is drawn where the outer one is cut away, so no pixel is in both.
    """
    assets = _assets()
    shell = assets.shell
    vertices = hair.vertices(person, shell) + _morph(assets.shell_modes, person)
    normals = _seamless_normals(vertices, shell)
    values = np.column_stack([shell.s, shell.phi, normals, vertices])
    xy, z = _project(vertices, label, size)
    faces = hair.visible_faces(person, shell)
    found = []
    for inner, cull in ((False, "back"), (True, "front")):
        face, weights = rasterize_triangles(xy, z, faces, size, size, perspective=True, cull=cull)
        face, weights = face.ravel(), weights.reshape(-1, 3)
        pixels = np.nonzero(face >= 0)[0]
        corners = faces[face[pixels]]
        near = _dot(z[corners], weights[pixels])
        front = near < depth[pixels]
        pixels, corners, near = pixels[front], corners[front], near[front]
        samples = _spread(values, corners, weights[pixels])
        kept = hair.covers(person, samples[:, 0], samples[:, 1])
        pixels, samples = pixels[kept], samples[kept]
        depth[pixels] = near[kept]
        found.append((samples, pixels, inner))
    return found


def _seamless_normals(vertices: np.ndarray, shell: hair.Shell) -> np.ndarray:
    normals = _normals(vertices, shell.faces).reshape(-1, hair.COLUMNS + 1, 3)
    normals[:, 0] = normals[:, -1] = normals[:, 0] + normals[:, -1]
    return _unit(normals.reshape(-1, 3))


# [P, 3] linear
def _shade_solid(
    person: Person,
    expression: dict[str, float],
    light: Light,
    mesh: _Mesh,
    face: np.ndarray,  # [P] index of the face
    weights: np.ndarray,  # [P, 3] of its corners
    eye: np.ndarray,  # [3] where the camera is
) -> np.ndarray:
    corners = mesh.faces[face]
    table = np.column_stack([mesh.place, mesh.posed, mesh.normals, mesh.vertices, mesh.occlusion])
    values = _spread(table, corners, weights)
    place, posed, normal, world, occlusion = np.split(values, [3, 5, 8, 11], axis=1)
    normal, view, occlusion = _unit(normal), _unit(eye - world), occlusion[:, 0]
    material = mesh.material[face]
    result = np.zeros((len(face), 3), np.float32)

    on = np.nonzero(material == SKIN)[0]
    albedo, gloss = skin.paint(person, place[on], posed[on], expression.get("jawOpen", 0.0))
    s, phi = hair.coordinates(place[on])
    hidden = 0.9 * hair.roots(person, s, phi)[:, None]
    albedo = albedo + (person.hair * 0.75 - albedo) * hidden
    sky = occlusion[on] * (1 - hair.shadow(person, s, phi))
    gloss = gloss * (1 - hidden[:, 0])
    soft = np.array([0.42, 0.26, 0.22], np.float32)
    result[on] = _illuminate(albedo, normal[on], view[on], gloss, sky, light, soft)

    on = np.nonzero(material == CLOTH)[0]
    trim = step(
        place[on, 1] - person.collar + person.neckline * step(place[on, 2], -0.1, 0.1),
        -0.030,
        -0.024,
    )
    weave = 1 + 0.10 * noise(place[on, 0] * 70 + person.seed, place[on, 1] * 160)
    cloth = (person.clothes + (person.trim - person.clothes) * trim[:, None]) * weave[:, None]
    result[on] = _illuminate(
        cloth,
        normal[on],
        view[on],
        np.zeros(len(on), np.float32),
        occlusion[on],
        light,
        np.full(3, 0.15, np.float32),
    )

    on = np.nonzero(material == METAL)[0]
    frame = np.broadcast_to(person.frame, (len(on), 3))
    result[on] = _illuminate(
        frame,
        normal[on],
        view[on],
        np.full(len(on), 3.0, np.float32),
        occlusion[on],
        light,
        np.full(3, 0.1, np.float32),
    )

    on = np.nonzero(material == BUN)[0]
    if len(on):
        around = np.arctan2(place[on, 0], place[on, 2] + 0.19)
        strands = hair.paint(person, place[on, 1] * 9 + 0.3 * around, around * 0.5)
        result[on] = _hair_light(strands, normal[on], view[on], occlusion[on], light)
    return result


def _shade_hair(
    person: Person, light: Light, values: np.ndarray, inner: bool, eye: np.ndarray
) -> np.ndarray:
    s, phi = values[:, 0], values[:, 1]
    normal, view = _unit(values[:, 2:5]), _unit(eye - values[:, 5:8])
    albedo = hair.paint(person, s, phi)
    if inner:
        return _hair_light(albedo, -normal, view, np.full(len(s), 0.28, np.float32), light)
    edge = step(hair.line(person, phi) - s, 0.0, 0.12)
    occlusion = (0.72 + 0.28 * edge) * (1 - 0.35 * step(s, hair.EQUATOR, hair.EQUATOR + 1.4))
    return _hair_light(albedo, normal, view, occlusion, light)
