"""The template's surface in motion.

Where it goes, how it turns and stretches when blendshapes are mixed in.

Networks slide Gaussians along the template: what an eye looks like is often drawn by Gaussians of
texels beside the eye's. So a Gaussian is looked up not at its own texel but at the place of the
template that it lies over, found from its texel by Newton's method in the tangent plane. There it
takes the surface's offset and deformation gradient.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.gaussians import Gaussians
from gghead.rendering.projection import quat_to_rotmat
from gghead.rotations import quat_multiply
from gghead.template import Template, rasterize_triangles
from gghead.torch_utils.errors import UserError

_MAP = 512  # texels a side of the map from UV places to faces
# texels around a place to look at
_SHIFTS = ((0.0, 0.0), (0.7, 0.0), (-0.7, 0.0), (0.0, 0.7), (0.0, -0.7))
_ROUNDS, _STEP = 6, 0.03  # of Newton's method; longest step in UV units
# world units from the surface: what is nearer follows it, what is farther does not
_NEAR, _FAR = 0.07, 0.16
_LEAST = 0.1  # scales of Gaussians shrink to this share, no further
# symmetric shapes; width of the middle, world units
_DIVIDED, _SEAM = ("browInnerUp", "cheekPuff"), 0.015


@dataclass(frozen=True)
class Places:
    """Points of the surface, [..., N] each."""

    face: Tensor  # [..., N]
    bary: Tensor  # [..., N, 3] weights of the face's corners
    follows: Tensor  # [..., N, 1] in [0, 1]: share of the surface's motion that is passed on


class MovingSurface:
    """A template with its blendshapes; ``moving_surface`` keeps one per template.

    Raises ``UserError`` for a template without blendshapes.
    """

    def __init__(self, template: Template) -> None:
        if not template.blendshapes:
            raise UserError(
                f"The template '{template.name}' has no blendshapes; animate heads on the template"
                " 'head', or use an expression transformer."
            )
        shapes = with_halves(template)
        self.names = tuple(shapes)
        self.faces = torch.from_numpy(template.faces).long()  # [F, 3]
        self.uv_corners = _tensor(template.uvs[template.uv_faces])  # [F, 3, 2]
        self.positions = _tensor(template.vertices)  # [V, 3]
        # [V, 2] in [-1, 1], one of its places at a seam
        self.vertex_uv = torch.empty(len(self.positions), 2)
        self.vertex_uv[self.faces.flatten()] = self.uv_corners.flatten(0, 1) * 2 - 1
        self.lips = _tensor(template.regions.get("lips", np.zeros(len(template.vertices))))  # [V]
        self.offsets = _tensor(np.stack(list(shapes.values())))  # [K, V, 3]
        face, _ = rasterize_triangles(template.uvs * _MAP, None, template.uv_faces, _MAP, _MAP)
        # Faces reach over the borders of UV islands by some texels, for points that are carried
        # over them.
        self.face_map = torch.from_numpy(_grown(face, 4).astype(np.int64))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "MovingSurface":
        """The same surface on another device, or in another precision."""
        moved = object.__new__(MovingSurface)
        moved.__dict__ = {
            name: (
                value.to(device, dtype if value.is_floating_point() else None)
                if isinstance(value, Tensor)
                else value
            )
            for name, value in self.__dict__.items()
        }
        return moved

    # ----------------------------------------------------------------- looking up
    def at(self, uv: Tensor) -> Places:  # [..., N, 2] in [-1, 1], as Gaussians have it
        """Places of the surface itself."""
        found = [self._near(uv, shift) for shift in _SHIFTS]
        # a texel's face may not be that of a place in its corner
        bary = torch.stack([bary for _, bary in found])
        best = bary.amin(-1).argmax(0)
        face = torch.stack([face for face, _ in found]).gather(0, best[None])[0]
        bary = bary.gather(0, best[None, ..., None].expand(1, *bary.shape[1:]))[0]
        return Places(face, bary, torch.ones_like(uv[..., :1]))

    def _near(self, uv: Tensor, shift: tuple[float, float] = (0.0, 0.0)) -> tuple[Tensor, Tensor]:
        """Faces [..., N] in the map, at most a texel away, and their corners' weights.

        The weights are [..., N, 3].
        """
        places = (uv + 1) / 2
        texel = (places * _MAP + uv.new_tensor(shift)).long().clamp(0, _MAP - 1)
        face = self.face_map[texel[..., 1], texel[..., 0]]
        a, b, c = self.uv_corners[face].unbind(-2)
        ab, ac, ap = b - a, c - a, places - a
        area = _cross(ab, ac)
        second, third = _cross(ap, ac) / area, _cross(ab, ap) / area
        return face, torch.stack([1 - second - third, second, third], -1)

    @torch.no_grad()
    def below(self, points: Tensor, uv: Tensor) -> Places:  # [..., N, 3], [..., N, 2]
        """Places that ``points`` lie over; ``uv`` is where to begin."""
        for _ in range(_ROUNDS):
            face, bary = self._near(uv)
            corners = self.positions[self.faces[face]]
            a, b, c = corners.unbind(-2)
            gap = points - (corners * bary[..., None]).sum(-2)
            ab, ac = b - a, c - a
            aa, cc, cross = (ab * ab).sum(-1), (ac * ac).sum(-1), (ab * ac).sum(-1)
            ga, gc = (ab * gap).sum(-1), (ac * gap).sum(-1)
            step = torch.stack([cc * ga - cross * gc, aa * gc - cross * ga], -1)
            # in units of the face's edges
            step = step / (aa * cc - cross * cross).clamp_min(1e-14)[..., None]
            corner = self.uv_corners[face]
            step = (step[..., None] * (corner[..., 1:, :] - corner[..., :1, :])).sum(-2)
            uv = (uv + 2 * step * (_STEP / step.norm(dim=-1, keepdim=True).clamp_min(_STEP))).clamp(
                -1, 1
            )
        at = self.at(uv)
        distance = (points - self.point(at)).norm(dim=-1, keepdim=True)
        share = ((_FAR - distance) / (_FAR - _NEAR)).clamp(0, 1)
        return Places(at.face, at.bary, share * share * (3 - 2 * share))

    def point(self, places: Places) -> Tensor:  # [..., N, 3]
        """Where a place is on the neutral surface."""
        return (self.positions[self.faces[places.face]] * places.bary[..., None]).sum(-2)

    def uv(self, places: Places) -> Tensor:  # [..., N, 2] in [-1, 1]
        """The UV places."""
        return (self.uv_corners[places.face] * places.bary[..., None]).sum(-2) * 2 - 1

    # --------------------------------------------------------------------- moving
    # [..., K]; the batches of both are broadcast
    def motion_of(self, places: Places, weights: Tensor) -> "Motion":
        """What the blendshapes mixed by ``weights`` do there."""
        offsets = torch.einsum("...k,kvc->...vc", weights, self.offsets)  # [..., V, 3]
        corners = self.faces[places.face]
        batch = torch.broadcast_shapes(offsets.shape[:-2], corners.shape[:-2])
        index = corners.flatten(-2)[..., None].expand(*batch, -1, 3)
        # [..., N, 3 corners, 3]
        change = offsets.expand(*batch, -1, -1).gather(-2, index).unflatten(-2, (-1, 3))
        change = places.follows[..., None] * change
        offset = (change * places.bary[..., None]).sum(-2)
        a, b, c = self.positions[corners].unbind(-2)
        first, second = b - a, c - a
        first_change, second_change = (
            change[..., 1, :] - change[..., 0, :],
            change[..., 2, :] - change[..., 0, :],
        )
        normal, area = _unit(torch.linalg.cross(first, second))
        moved, moved_area = _unit(torch.linalg.cross(first + first_change, second + second_change))
        # What stays still must do so to the last bit, but the same norm in another shape may be
        # rounded otherwise.
        still = (change == 0).flatten(-2).all(-1, keepdim=True)
        moved, moved_area = torch.where(still, normal, moved), torch.where(still, area, moved_area)
        # Rows dual to the two edges and the normal: what multiplies the changes of these three.
        duals = (
            torch.linalg.cross(second, normal) / area,
            torch.linalg.cross(normal, first) / area,
            normal,
        )
        changes = first_change, second_change, moved - normal
        gradient = torch.eye(3, dtype=weights.dtype, device=weights.device)
        for column, row in zip(changes, duals, strict=True):
            gradient = gradient + column[..., :, None] * row[..., None, :]
        return Motion(offset, gradient, normal, moved_area / area)


@dataclass(frozen=True)
class Motion:
    """What a moving surface does at N places."""

    offset: Tensor  # [..., N, 3] world units
    # [..., N, 3, 3]: maps tangents to moved tangents, the unit normal to the moved unit normal
    gradient: Tensor
    normal: Tensor  # [..., N, 3] neutral unit normal
    area: Tensor  # [..., N, 1] factor by which the surface's area grows

    def stretch(self) -> Tensor:  # [..., N, 1]
        """The larger factor (singular value) by which the surface is stretched along itself."""
        # sum of the two factors' squares
        square = self.gradient.square().sum((-2, -1))[..., None] - 1
        return (
            square / 2 + ((square / 2).square() - self.area.square()).clamp_min(1e-12).sqrt()
        ).sqrt()

    def rotation(self) -> Tensor:  # [..., N, 4] quaternions
        """The rotation in the polar decomposition of the gradient, in closed form.

        It is the least rotation that takes the normal along, after a turn in the tangent plane by
        the angle of the polar decomposition of a 2 x 2 matrix M, atan2(M10 - M01, M00 + M11).
        Exactly (1, 0, 0, 0) where nothing moves.
        """
        normal = self.normal.expand(self.offset.shape)
        moved = (self.gradient @ normal[..., None])[..., 0]
        bend = torch.cat(
            [
                1 + (normal * moved).sum(-1, keepdim=True),
                torch.linalg.cross(normal, moved - normal),
            ],
            -1,
        )
        # (the cross product of n and moved - n is zero to the last bit where both are the same)
        # a surface folded by 180 degrees has no least rotation
        bend = F.normalize(bend, dim=-1, eps=1e-6)
        flat = quat_to_rotmat(bend).mT @ self.gradient  # M in the tangent plane, 1 along the normal
        cosine = flat.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) - 1
        axial = torch.stack(
            [
                flat[..., 2, 1] - flat[..., 1, 2],
                flat[..., 0, 2] - flat[..., 2, 0],
                flat[..., 1, 0] - flat[..., 0, 1],
            ],
            -1,
        )
        sine = (axial * normal).sum(-1, keepdim=True)
        length = (cosine.square() + sine.square()).clamp_min(1e-20).sqrt()
        return quat_multiply(
            bend, F.normalize(torch.cat([length + cosine, sine * normal], -1), dim=-1, eps=1e-6)
        )

    def carry(self, gaussians: Gaussians, most: float) -> Gaussians:  # [1 or T, N] -> [T, N]
        """Gaussians after the motion: means shifted, turned, and stretched along their own axes.

        Offsets are taken in world axes. Heads are aligned with the template, and offsets that
        turned with the normals of lips and lids would throw about what lies a little above them.
        ``most`` bounds the growth of scales.
        """
        count = len(self.offset)
        gaussians = gaussians.map(lambda tensor: tensor.expand(count, *tensor.shape[1:]))
        axes = quat_to_rotmat(gaussians.quats)
        factor = (self.gradient @ axes).norm(dim=-2) / axes.norm(dim=-2)
        return replace(
            gaussians,
            means=gaussians.means + self.offset,
            quats=quat_multiply(self.rotation(), gaussians.quats),
            scales=gaussians.scales * factor.clamp(_LEAST, most),
        )


def moving_surface(
    template: Template, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> MovingSurface:
    """The moving surface of ``template``; raises ``UserError`` if it has no blendshapes."""
    return _moving_surface(template, str(device), dtype)


@functools.lru_cache(maxsize=4)
def _moving_surface(template: Template, device: str, dtype: torch.dtype) -> MovingSurface:
    if (device, dtype) == ("cpu", torch.float32):
        return MovingSurface(template)
    return moving_surface(template).to(device, dtype)


def with_halves(template: Template) -> dict[str, np.ndarray]:  # name -> [V, 3]
    """The blendshapes, and halves of those that only ICT-FaceKit divides into left and right."""
    shapes = dict(template.blendshapes)
    left = 0.5 + 0.5 * np.tanh(template.vertices[:, :1] / _SEAM)
    for name in _DIVIDED:
        if name in shapes:
            shapes.setdefault(name + "Left", left * shapes[name])
            shapes.setdefault(name + "Right", (1 - left) * shapes[name])
    return shapes


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _cross(a: Tensor, b: Tensor) -> Tensor:  # [..., 2], [..., 2] -> [...]
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _unit(vectors: Tensor) -> tuple[Tensor, Tensor]:  # directions [..., 3], lengths [..., 1]
    length = vectors.square().sum(-1, keepdim=True).clamp_min(1e-24).sqrt()
    return vectors / length, length


# [R, R], -1 = none -> the same, islands grown
def _grown(face: np.ndarray, rounds: int) -> np.ndarray:
    """Give empty texels the face of a neighbor, round by round; what is left gets face 0."""
    for _ in range(rounds):
        padded = np.pad(face, 1, constant_values=-1)
        near = np.stack([padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]])
        face = np.where(face < 0, near.max(0), face)
    return np.maximum(face, 0)
