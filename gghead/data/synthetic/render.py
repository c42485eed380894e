"""Pictures of synthetic people: visibility, paint and light, supersampled."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gghead.data.synthetic import hair, skin
from gghead.data.synthetic.figure import BUN, CLOTH, METAL, SKIN, Figure, Mesh, load_assets, pose
from gghead.data.synthetic.light import dot, hair_light, illuminate, unit
from gghead.data.synthetic.noise import display, noise, step
from gghead.data.synthetic.person import Light, Person
from gghead.template.rasterize import rasterize_samples

SUPERSAMPLING = 3  # samples per pixel and axis; odd, so that one lies at the pixel's centre
_PART = 1 << 13  # samples that are shaded together


@dataclass(frozen=True)
class Picture:
    """A rendered person; colors are not multiplied by alpha, and white where it is zero."""

    rgb: np.ndarray  # [R, R, 3] uint8
    alpha: np.ndarray  # [R, R] uint8
    # [R, R] float32, distance along the view axis at the pixel's centre, 0 outside
    depth: np.ndarray
    # [R, R, 2] float32 template coordinates at the pixel's centre, -1 where no skin is seen
    uv: np.ndarray


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
    depth[pixels] = dot(z[corners.T], weights.T)
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
    mesh: Mesh, pixels: np.ndarray, face: np.ndarray, weights: np.ndarray, resolution: int
) -> np.ndarray:
    template = load_assets().template
    skin_faces = face < len(mesh.head_faces)
    pixels, face, weights = pixels[skin_faces], face[skin_faces], weights[skin_faces]
    grid = np.full((resolution * SUPERSAMPLING,) * 2, -1)
    grid.reshape(-1)[pixels] = np.arange(len(pixels))
    middle = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    chosen = grid[middle, middle]
    uv = np.full((resolution, resolution, 2), -1, np.float32)
    corners = template.uv_faces[mesh.head_faces[face[chosen[chosen >= 0]]]]
    uv[chosen >= 0] = _interpolate(template.uvs, corners, weights[chosen[chosen >= 0]]).T
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
            samples = _interpolate(figure.hair_table, corners, weights[part])
            kept = np.nonzero(hair.covers(person, samples[0], samples[1]))[0]
            values.append(samples[:, kept])
            shown.append(pixels[part][kept])
            depth[shown[-1]] = dot(z[corners[kept].T], weights[part][kept].T)
        if values:
            found.append((np.concatenate(values, 1), np.concatenate(shown), inner))
    return found


def _project(points: np.ndarray, label: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel coordinates [N, 2] and depth [N]."""
    pose, k = label[:16].reshape(4, 4), label[16:].reshape(3, 3)
    camera = np.einsum("nk,kc->nc", points - pose[:3, 3], pose[:3, :3])
    x, y, z = camera.T
    return (
        np.stack([(k[0, 0] * x + k[0, 1] * y) / z + k[0, 2], k[1, 1] * y / z + k[1, 2]], -1) * size,
        z,
    )


def _interpolate(table: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Interpolate vertex values [V, A] at samples with corner indices [P, 3] and weights [P, 3]:
    [A, P] float32."""
    weights = weights.astype(np.float32)
    total = table[corners[:, 0]] * weights[:, :1]
    for i in (1, 2):
        total += table[corners[:, i]] * weights[:, i : i + 1]
    return np.ascontiguousarray(total.T)


# [S * S, C] -> [R, R, C] sums over a pixel's samples
def _blocks(samples: np.ndarray, size: int) -> np.ndarray:
    grid = samples.reshape(size, size, -1)
    rows = functools.reduce(np.add, (grid[i::SUPERSAMPLING] for i in range(SUPERSAMPLING)))
    columns = (rows[:, i::SUPERSAMPLING] for i in range(SUPERSAMPLING))
    return functools.reduce(np.add, columns)


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
            values = _interpolate(figure.table, corners[on], weights[on])
            normal, view = unit(values[5:8]), unit(eye[:, None] - values[8:11])
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
    return illuminate(albedo, surface.normal, surface.view, gloss, sky, light, soft)


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
    return illuminate(
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
    return hair_light(strands, surface.normal, surface.view, surface.occlusion, light)


_SHADERS = {SKIN: _shade_skin, CLOTH: _shade_cloth, METAL: _shade_metal, BUN: _shade_bun}


def _shade_hair(
    person: Person, light: Light, values: np.ndarray, inner: bool, eye: np.ndarray
) -> np.ndarray:
    s, phi = values[:2]
    normal, view = unit(values[2:5]), unit(eye[:, None] - values[5:8])
    albedo = hair.paint(person, s, phi)
    if inner:
        return hair_light(albedo, -normal, view, np.full(len(s), 0.28, np.float32), light)
    edge = step(hair.line(person, phi) - s, 0.0, 0.12)
    occlusion = (0.72 + 0.28 * edge) * (1 - 0.35 * step(s, hair.EQUATOR, hair.EQUATOR + 1.4))
    return hair_light(albedo, normal, view, occlusion, light)
