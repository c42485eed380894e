"""Images of synthetic people: visibility, paint and light, supersampled."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gghead.data.synthetic import accessories, eyes, hair, mouth, skin
from gghead.data.synthetic.figure import CLOTH, METAL, SKIN, TIED, Figure, Mesh, load_assets, pose
from gghead.data.synthetic.light import hair_light, illuminate, unit
from gghead.data.synthetic.noise import display, noise, step
from gghead.data.synthetic.person import Light, Person
from gghead.template.rasterize import Samples, rasterize_samples

SUPERSAMPLING = 3  # samples per pixel and axis; odd, so that one lies at the pixel's center
_AHEAD = np.array([[0.0], [0.0], [0.55]], np.float32)
_PART = 1 << 14  # samples that are shaded together


@dataclass(frozen=True)
class Image:
    """A rendered person; colors are not multiplied by alpha, and white where it is zero."""

    rgb: np.ndarray  # [R, R, 3] uint8
    alpha: np.ndarray  # [R, R] uint8
    # [R, R] float32, distance along the view axis at the pixel's center, 0 outside
    depth: np.ndarray
    # [R, R, 2] float32 template coordinates at the pixel's center, -1 where no skin is seen
    uv: np.ndarray


def render(
    person: Person,
    expression: dict[str, float],  # blendshape weights
    light: Light,
    label: np.ndarray,  # [25] camera
    resolution: int,
) -> Image:
    """Draw one person with one expression from one camera."""
    return draw_figure(pose(person, expression, light), label, resolution)


def draw_figure(figure: Figure, label: np.ndarray, resolution: int) -> Image:
    """Draw a posed person from one camera; `label` is [25]."""
    size = resolution * SUPERSAMPLING
    label = np.asarray(label, np.float64)
    mesh = figure.mesh
    xy, z = _project(mesh.vertices, label, size)
    solid = rasterize_samples(xy, z, mesh.faces, size, size, perspective=True, cull="back")
    depth = np.full(size * size, np.inf)
    depth[solid.pixel] = solid.depth
    color = np.zeros((size * size, 3), np.float32)
    eye = label[[3, 7, 11]].astype(np.float32)
    layers = [
        *_mouth_layer(figure, label, size, depth, solid),
        *_hair_layers(figure, label, size, depth),
    ]
    seen = np.ones(size * size, bool)
    for _, hidden, _ in layers:
        seen[hidden] = False
    shown = np.nonzero(seen[solid.pixel])[0]
    pixels, face, weights = solid.pixel[shown], solid.face[shown], solid.weights[shown]
    color[pixels] = _shade_solid(figure, face, weights, eye)
    for values, hidden, shade in layers:
        for part in _parts(len(hidden)):
            color[hidden[part]] = display(shade(figure, values[:, part], eye)).T

    covered = np.isfinite(depth)
    alpha = _blocks(covered.astype(np.float32), size)[..., 0] / SUPERSAMPLING**2
    rgb = _blocks(color, size) / np.maximum(alpha * SUPERSAMPLING**2, 1e-9)[..., None]
    rgb = np.where(alpha[..., None] > 0, rgb, 1.0)
    middle = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    central = depth.reshape(size, size)[middle, middle]
    return Image(
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


# interpolated values [A, P], pixels [P], and the function that gives their light
_Layer = tuple[np.ndarray, np.ndarray, Callable[[Figure, np.ndarray, np.ndarray], np.ndarray]]


def _mouth_layer(
    figure: Figure,
    label: np.ndarray,
    size: int,
    depth: np.ndarray,  # [S * S], brought up to date
    solid: Samples,
) -> list[_Layer]:
    """Teeth and tongue where the lips part."""
    table, mesh = figure.mouth_table, figure.mesh
    if table is None:
        return []
    near = np.nonzero(mesh.around_mouth[mesh.faces[:, 0]][solid.face])[0]
    posed = _interpolate(mesh.posed, mesh.faces[solid.face[near]], solid.weights[near])
    window = solid.pixel[near[mesh.gap.contains(posed)]]
    limit = np.full(size * size, 1e-9)
    limit[window] = np.inf
    xy, z = _project(table[:, 6:9], label, size)
    faces = mouth.interior().faces
    inside = rasterize_samples(xy, z, faces, size, size, perspective=True, cull="back", limit=limit)
    depth[inside.pixel] = inside.depth
    empty = np.setdiff1d(window, inside.pixel, assume_unique=True)
    values = _interpolate(table, faces[inside.face], inside.weights)
    return [
        (values, inside.pixel, _shade_mouth),
        (np.zeros((1, len(empty)), np.float32), empty, _shade_throat),
    ]


def _hair_layers(figure: Figure, label: np.ndarray, size: int, depth: np.ndarray) -> list[_Layer]:
    """Outer and inner side of the shell; ``depth`` is brought up to date.

    The inner side is drawn where the outer one is cut away, so no pixel is in both.
    """
    table = figure.hair_table
    if table is None:
        return []
    person, faces = figure.person, figure.hair_faces
    xy, z = _project(table[:, 5:8], label, size)
    found = []
    for shade, cull in ((_shade_hair, "back"), (_shade_hair_inside, "front")):
        side = rasterize_samples(xy, z, faces, size, size, perspective=True, cull=cull, limit=depth)
        values, shown = [], []
        for part in _parts(len(side.pixel)):
            samples = _interpolate(table, faces[side.face[part]], side.weights[part])
            kept = np.nonzero(hair.covers(person, samples[0], samples[1]))[0]
            values.append(samples[:, kept])
            shown.append(side.pixel[part][kept])
            depth[shown[-1]] = side.depth[part][kept]
        if values:
            found.append((np.concatenate(values, 1), np.concatenate(shown), shade))
    return found


def _project(points: np.ndarray, label: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel coordinates [N, 2] and depth [N]."""
    cam2world, k = label[:16].reshape(4, 4), label[16:].reshape(3, 3)
    camera = np.einsum("nk,kc->nc", points - cam2world[:3, 3], cam2world[:3, :3])
    x, y, z = camera.T
    return (
        np.stack([(k[0, 0] * x + k[0, 1] * y) / z + k[0, 2], k[1, 1] * y / z + k[1, 2]], -1) * size,
        z,
    )


def _interpolate(table: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Interpolate vertex values [V, A] at samples: [A, P] float32.

    Samples have corner indices [P, 3] and weights [P, 3].
    """
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
    world: np.ndarray  # [3, P]
    normal: np.ndarray  # [3, P]
    view: np.ndarray  # [3, P] unit, towards the camera
    occlusion: np.ndarray  # [P] share of the sky that is seen
    lit: np.ndarray  # [P] share of the key light


# [P, 3] as displayed
def _shade_solid(
    figure: Figure,
    face: np.ndarray,  # [P] index of the face
    weights: np.ndarray,  # [P, 3] of its corners
    eye: np.ndarray,  # [3] where the camera is
) -> np.ndarray:
    result = np.zeros((len(face), 3), np.float32)
    material = figure.mesh.material[face]
    for kind, shade in _SHADERS.items():
        samples = np.nonzero(material == kind)[0]
        for part in _parts(len(samples)):
            on = samples[part]
            values = _interpolate(figure.table, figure.mesh.faces[face[on]], weights[on])
            normal, world = unit(values[5:8]), values[8:11]
            view = unit(eye[:, None] - world)
            surface = _Surface(values[:3], world, normal, view, values[11], values[12])
            result[on] = display(shade(figure, surface)).T
    return result


def _shade_skin(figure: Figure, surface: _Surface) -> np.ndarray:
    person, place = figure.person, surface.place
    albedo, gloss = skin.paint(person, place, figure.mesh.gap.opening, figure.expression)
    s, phi = hair.coordinates(place.T)
    hidden = 0.9 * hair.roots(person, s, phi)
    albedo = albedo + (person.hair[:, None] * 0.75 - albedo) * hidden
    sky = surface.occlusion * (1 - hair.shadow(person, s, phi))
    gloss = gloss * (1 - hidden)
    normal, lit = surface.normal, surface.lit
    near = eyes.find_samples(place)
    if len(near):
        there = place[:, near]
        ball = eyes.directions(figure.eyes, there, surface.world[:, near])
        left, right = (figure.expression.get(f"eyeBlink{side}", 0.0) for side in ("Left", "Right"))
        shows = eyes.opening(there, (left, right))
        painted = eyes.paint_lids(person, albedo[:, near], there)
        ball_paint = eyes.paint_ball(person, figure.eyes, there, ball)
        albedo[:, near] = painted + (ball_paint - painted) * shows
        # A wet ball scatters light inside: it is brighter than its place in the socket.
        normal = normal.copy()
        facing = unit(0.45 * ball + _AHEAD)
        normal[:, near] = normal[:, near] + (facing - normal[:, near]) * shows
        sky, lit = sky.copy(), lit.copy()
        bright = np.maximum(shows, 0.8 * eyes.lid_rim(there))
        sky[near] += (0.80 - sky[near]) * bright
        lit[near] += (np.maximum(lit[near], 0.75) - lit[near]) * bright
        gloss[near] *= 1 - 0.8 * shows
    soft = np.array([0.42, 0.26, 0.22], np.float32)
    return illuminate(albedo, normal, surface.view, gloss, sky, lit, figure.light, soft)


def _shade_cloth(figure: Figure, surface: _Surface) -> np.ndarray:
    person, (x, y, z) = figure.person, surface.place
    trim = step(y - person.collar + person.neckline * step(z, -0.1, 0.1), -0.030, -0.024)
    weave = 1 + 0.10 * noise(x * 70 + person.seed, y * 160)
    clothes = person.clothes[:, None]
    cloth = (clothes + (person.trim[:, None] - clothes) * trim) * weave
    return _dull(figure, cloth, 0.0, 0.15, surface)


def _shade_metal(figure: Figure, surface: _Surface) -> np.ndarray:
    frame = np.broadcast_to(figure.person.frame[:, None], surface.normal.shape)
    return _dull(figure, frame, 3.0, 0.1, surface)


def _dull(
    figure: Figure, albedo: np.ndarray, gloss: float, wrap: float, surface: _Surface
) -> np.ndarray:
    return illuminate(
        albedo,
        surface.normal,
        surface.view,
        np.full(albedo.shape[1], gloss, np.float32),
        surface.occlusion,
        surface.lit,
        figure.light,
        np.full(3, wrap, np.float32),
    )


def _shade_tied(figure: Figure, surface: _Surface) -> np.ndarray:
    around = accessories.around_tie(figure.person, surface.place)
    strands = hair.paint(figure.person, surface.place[1] * 9 + 0.3 * around, around * 0.5)
    return hair_light(strands, surface.normal, surface.view, surface.occlusion, figure.light)


_SHADERS = {SKIN: _shade_skin, CLOTH: _shade_cloth, METAL: _shade_metal, TIED: _shade_tied}


def _shade_hair(figure: Figure, values: np.ndarray, eye: np.ndarray) -> np.ndarray:
    person, (s, phi) = figure.person, values[:2]
    edge = step(hair.line(person, phi) - s, 0.0, 0.12)
    occlusion = (0.72 + 0.28 * edge) * (1 - 0.35 * step(s, hair.EQUATOR, hair.EQUATOR + 1.4))
    return _light_on_hair(figure, values, values[2:5], occlusion, eye)


def _shade_hair_inside(figure: Figure, values: np.ndarray, eye: np.ndarray) -> np.ndarray:
    occlusion = np.full(values.shape[1], 0.28, np.float32)
    return _light_on_hair(figure, values, -values[2:5], occlusion, eye)


def _light_on_hair(
    figure: Figure,
    values: np.ndarray,
    normal: np.ndarray,
    occlusion: np.ndarray,
    eye: np.ndarray,
) -> np.ndarray:
    albedo = hair.paint(figure.person, values[0], values[1])
    view = unit(eye[:, None] - values[5:8])
    return hair_light(albedo, unit(normal), view, occlusion, figure.light)


def _shade_mouth(figure: Figure, values: np.ndarray, eye: np.ndarray) -> np.ndarray:
    albedo, gloss, open_share = mouth.paint(values[:3])
    normal, view = unit(values[3:6]), unit(eye[:, None] - values[6:9])
    wrap = np.full(3, 0.4, np.float32)
    return illuminate(
        albedo, normal, view, gloss * open_share, open_share, open_share, figure.light, wrap
    )


def _shade_throat(figure: Figure, values: np.ndarray, eye: np.ndarray) -> np.ndarray:
    dark = mouth.INSIDE * (0.25 * (figure.light.sky + figure.light.key_color))
    return np.repeat(dark[:, None], values.shape[1], 1)
