"""Frames with cameras: the set of them, and a cache of decoded ones.

Only indices and small arrays are held; pixels are decoded on request, from any thread.
"""

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.data.backdrop import LOOKED_AT, find_backdrop
from gghead.data.camera_labels import check_labels
from gghead.data.frame_images import Images
from gghead.torch_utils.errors import UserError


@dataclass(frozen=True)
class Frame:
    """One decoded image."""

    rgb: Tensor  # uint8 [3, H, W], not multiplied by alpha
    alpha: Tensor  # uint8 [1, H, W], 255 everywhere where the data have no masks
    camera: Cameras  # float32, batch shape (); relative to the head in sequences
    coefficients: Tensor | None  # float32 [K]


@dataclass(frozen=True, eq=False)
class FrameSet:
    """N images with what is known of them; the base of ``Captures`` and ``TrackedSequence``.

    Raises ``UserError`` where lengths differ or a camera is impossible.
    """

    images: Images
    cameras: Cameras  # [N] float64; world = ours: y up, face along +z, 1 unit = 0.373 m of head
    subject: np.ndarray  # [N] int32 index into subjects
    moment: np.ndarray  # [N] int32 index into moments
    camera: np.ndarray  # [N] int32 index into camera_names
    subjects: tuple[str, ...] = ("0",)
    moments: tuple[str, ...] = ("0",)
    """What the face does: the name of an expression, or of a time step in order."""
    camera_names: tuple[str, ...] = ("0",)
    coefficients: Tensor | None = None  # float32 [N, K] expression coefficients
    coefficient_names: tuple[str, ...] | None = None
    split_codes: np.ndarray | None = None  # [N] int8 index into splits, -1 = in none
    splits: tuple[str, ...] = ()
    # float32 [N, k]: jaw, eyes, eyelids, neck …
    extras: dict[str, Tensor] = field(default_factory=dict)
    landmarks: Tensor | None = None  # float32 [N, L, 3] world units
    fps: float | None = None
    format: str = ""
    notes: tuple[str, ...] = ()
    """Sentences that a user should read: what was left out, assumed or estimated."""

    kind = "frames"

    def __post_init__(self) -> None:
        count, where = len(self.images), self.images.source.path
        if not count:
            raise UserError(f"{where} holds no image that was asked for.")
        lengths = {
            "cameras": len(self.cameras),
            "subject": len(self.subject),
            "moment": len(self.moment),
            "camera": len(self.camera),
        }
        for name in ("coefficients", "split_codes", "landmarks"):
            if getattr(self, name) is not None:
                lengths[name] = len(getattr(self, name))
        lengths |= {name: len(values) for name, values in self.extras.items()}
        for name, length in lengths.items():
            if length != count:
                raise UserError(f"{where} has {count} images, but {length} entries of '{name}'.")
        check_labels(self.cameras.label().double().numpy(), _Names(self.images), where)
        if self.coefficients is not None and not bool(torch.isfinite(self.coefficients).all()):
            bad = int((~torch.isfinite(self.coefficients)).any(1).nonzero()[0])
            raise UserError(
                f"The expression of {self.name(bad)} in {where} holds NaN or infinite numbers;"
                " mend it."
            )
        if self.coefficient_names is not None and len(self.coefficient_names) != self.width:
            raise UserError(
                f"{where} names {len(self.coefficient_names)} expression coefficients, but its"
                f" vectors have {self.width}."
            )

    # ----------------------------------------------------------------- reading
    def __len__(self) -> int:
        return len(self.images)

    @property
    def has_masks(self) -> bool:
        return self.images.mask_kind != "none"

    @functools.cached_property
    def backdrop(self) -> Tensor | None:  # [3] in [0, 1]
        """The one color behind all heads, or ``None``.

        A few frames are decoded when it is first asked for.

        Resized images keep what was found before: small ones may have no pixel left that is far
        from the head, and what was read as mixtures must be taken apart as mixtures.
        """
        if self.images.resolution is not None:
            return self.images.backdrop
        if self.images.mask_kind in ("none", "embedded"):
            return None  # colors beside an alpha channel of their own are not mixtures
        count = min(LOOKED_AT, len(self))
        chosen = torch.linspace(0, len(self) - 1, count).round().long().tolist()
        return find_backdrop(_readable(self, chosen))

    @property
    def width(self) -> int:
        """Number of expression coefficients."""
        return 0 if self.coefficients is None else self.coefficients.shape[1]

    def name(self, index: int) -> str:
        """The image's name in its source."""
        return self.images.name(index)

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of the image that ``get`` returns."""
        width, height = self.images.resolution or self.images.sizes[index].tolist()
        return width, height

    def get(self, index: int) -> Frame:
        """Decode a frame.

        Safe to call from several threads; raises ``UserError`` for a broken image.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        rgb, alpha = self.images.read(index)
        coefficients = None if self.coefficients is None else self.coefficients[index].clone()
        return Frame(
            torch.from_numpy(rgb.transpose(2, 0, 1).copy()),
            torch.from_numpy(alpha[None].copy()),
            self.cameras[index].to(torch.float32),
            coefficients,
        )

    def split_of(self, index: int) -> str | None:
        code = -1 if self.split_codes is None else int(self.split_codes[index])
        return None if code < 0 else self.splits[code]

    # --------------------------------------------------------------- selecting
    def take(self, indices: Sequence[int] | np.ndarray) -> Self:
        """The frames at ``indices``, in that order.

        Names of subjects, moments and cameras stay as they are.
        """
        indices = np.asarray(indices, np.int64)
        at = torch.from_numpy(indices)

        def part(values: np.ndarray | Tensor | None) -> np.ndarray | Tensor | None:
            return None if values is None else values[at if isinstance(values, Tensor) else indices]

        return dataclasses.replace(
            self,
            images=self.images.select(indices),
            cameras=self.cameras[at],
            extras={name: values[at] for name, values in self.extras.items()},
            **{
                name: part(getattr(self, name))
                for name in (
                    "subject",
                    "moment",
                    "camera",
                    "coefficients",
                    "split_codes",
                    "landmarks",
                )
            },
        )

    def first(self, count: int | None) -> Self:
        """The first ``count`` frames; all for None."""
        return self if count is None else self.take(np.arange(min(count, len(self))))

    def split(self, name: str) -> Self:
        """The frames of a split, such as "train".

        Raises ``UserError`` if there is none of that name.
        """
        if self.split_codes is None or name not in self.splits:
            have = f"its splits are {', '.join(self.splits)}" if self.splits else "it has no splits"
            raise UserError(f"{self.images.source.path} has no split '{name}'; {have}.")
        return self.take(np.flatnonzero(self.split_codes == self.splits.index(name)))

    def indices(
        self,
        subjects: Iterable[str | int] | str | int | None = None,
        moments: Iterable[str | int] | str | int | None = None,
        cameras: Iterable[str | int] | str | int | None = None,
    ) -> np.ndarray:
        """Indices of the frames with these names (None = all).

        Raises ``UserError`` for a name that does not exist.
        """
        chosen = np.ones(len(self), bool)
        for wanted, codes, names, what in (
            (subjects, self.subject, self.subjects, "subject"),
            (moments, self.moment, self.moments, "expression"),
            (cameras, self.camera, self.camera_names, "camera"),
        ):
            if wanted is not None:
                chosen &= np.isin(
                    codes, [self._code(name, names, what) for name in _as_list(wanted)]
                )
        return np.flatnonzero(chosen)

    def _code(self, name: str | int, names: tuple[str, ...], what: str) -> int:
        if str(name) in names:
            return names.index(str(name))
        shown = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
        raise UserError(f"{self.images.source.path} has no {what} '{name}'; it has {shown}.")

    # ---------------------------------------------------------------- changing
    def resize(self, resolution: int | tuple[int, int] | None) -> Self:
        """The same frames shown at ``resolution`` (width, height; one number = a square).

        Images of another aspect lose their margins (the largest centered part is shown) and the
        cameras' intrinsics follow exactly, so that what is seen stays where the camera says.
        """
        if resolution is None:
            return self
        width, height = (resolution, resolution) if isinstance(resolution, int) else resolution
        if width < 1 or height < 1:
            raise UserError(f"A resolution must be at least 1x1, but it is {width}x{height}.")
        if self.images.resolution is not None:
            raise ValueError("These images are already resized; start from those that were read.")
        images = dataclasses.replace(
            self.images, resolution=(width, height), backdrop=self.backdrop
        )
        intrinsics = self.cameras.intrinsics.clone()
        sizes, first = np.unique(self.images.sizes, axis=0, return_index=True)
        for size, index in zip(sizes, first, strict=True):
            box = images.box(int(index))
            if box is None:
                continue
            here = torch.from_numpy((self.images.sizes == size).all(1))
            scale = intrinsics.new_tensor(
                [size[0] / (box[2] - box[0]), size[1] / (box[3] - box[1]), 1]
            )
            shift = intrinsics.new_tensor(
                [-box[0] / (box[2] - box[0]), -box[1] / (box[3] - box[1]), 0]
            )
            changed = intrinsics[here] * scale[:, None]
            changed[:, :, 2] += shift
            intrinsics[here] = changed
        return dataclasses.replace(
            self, images=images, cameras=Cameras(self.cameras.cam2world, intrinsics)
        )

    def with_first(self, count: int) -> Self:
        """Only the first ``count`` coefficients (papers take 52 of FLAME's).

        Raises ``UserError`` if they are fewer.
        """
        if not 0 < count <= self.width:
            raise UserError(
                f"{self.images.source.path} has {self.width} expression coefficients, so its"
                f" first {count} cannot be taken; choose fewer."
            )
        assert self.coefficients is not None  # its width is not 0
        names = self.coefficient_names[:count] if self.coefficient_names else self.coefficient_names
        return dataclasses.replace(
            self, coefficients=self.coefficients[:, :count], coefficient_names=names
        )

    def with_extras(self, *names: str) -> Self:
        """Append tracked parameters such as "jaw" or "eyelids" to the coefficients.

        They become columns jaw_0, jaw_1 …
        """
        columns = [] if self.coefficients is None else [self.coefficients]
        labels = list(self.coefficient_names or (f"exp_{i}" for i in range(self.width)))
        for name in names:
            if name not in self.extras:
                raise UserError(
                    f"{self.images.source.path} has no '{name}' to append to the expression; it"
                    f" has {', '.join(self.extras) or 'none'}."
                )
            columns.append(self.extras[name])
            labels += [f"{name}_{i}" for i in range(self.extras[name].shape[1])]
        if not names:
            return self
        return dataclasses.replace(
            self, coefficients=torch.cat(columns, 1), coefficient_names=tuple(labels)
        )

    def describe(self) -> list[str]:
        """What is in the data, a line each."""
        subjects, moments, cameras = (
            len(np.unique(array)) for array in (self.subject, self.moment, self.camera)
        )
        what = "time steps" if self.kind == "sequence" else "expressions"
        sizes = Counter(self.size(index) for index in range(len(self)))
        shown = ", ".join(
            f"{width}x{height}" for (width, height), _ in sizes.most_common(3)
        ) + " …" * (len(sizes) > 3)
        lines = [
            f"{self.kind} ({self.format}): {subjects} subjects, {moments} {what}, {cameras}"
            f" cameras, {len(self)} frames of {shown}, {'with' if self.has_masks else 'without'}"
            " masks"
        ]
        if self.coefficients is not None:
            named = (
                re.sub(r"^(.{60}).*", r"\1 …", ", ".join(self.coefficient_names or ()))
                or "without names"
            )
            lines.append(f"coefficients: {self.width} ({named})")
        if self.extras:
            lines.append(
                "extras: "
                + ", ".join(f"{name} ({values.shape[1]})" for name, values in self.extras.items())
            )
        if self.split_codes is not None:
            counts = [
                f"{name} {int((self.split_codes == code).sum())}"
                for code, name in enumerate(self.splits)
            ]
            lines.append("splits: " + ", ".join(counts))
        yaw, pitch, _ = (np.degrees(angle.numpy()) for angle in self.cameras.angles())
        radius = self.cameras.position.norm(dim=-1)
        lines.append(
            f"cameras: yaw {yaw.min():.0f} to {yaw.max():.0f}, pitch {pitch.min():.0f} to"
            f" {pitch.max():.0f} degrees, {float(radius.min()):.2f} to {float(radius.max()):.2f}"
            " units from the head"
        )
        return lines + list(self.notes)

    def close(self) -> None:
        """Close the files; no image can be read afterwards."""
        self.images.source.close()


class _Names(Sequence[str]):
    """The images' names, made when they are asked for."""

    def __init__(self, images: Images):
        self.images = images

    def __getitem__(self, index: int) -> str:
        return self.images.name(index)

    def __len__(self) -> int:
        return len(self.images)


def _as_list(wanted: Iterable[str | int] | str | int) -> list[str | int]:
    return [wanted] if isinstance(wanted, (str, int, np.integer)) else list(wanted)


def _readable(frames: FrameSet, indices: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Colors and alpha of frames; those that are broken speak up when they are asked for."""
    for index in indices:
        try:
            frame = frames.get(index)
        except UserError:
            continue
        yield frame.rgb, frame.alpha


class FrameCache:
    """Color and alpha of the frames of a set.

    They are decoded once if all of them fit into ``cache_mb``, else every time.
    """

    def __init__(self, frames: FrameSet, cache_mb: int) -> None:
        self.frames = frames
        bytes_needed = sum(
            4 * width * height for width, height in map(frames.size, range(len(frames)))
        )
        self._kept: dict[int, Tensor] | None = {} if bytes_needed <= cache_mb * 2**20 else None

    @property
    def all_fit(self) -> bool:
        """Whether every image is decoded only once."""
        return self._kept is not None

    def rgba(self, index: int) -> Tensor:
        """uint8 [4, H, W]; colors are not multiplied by alpha.

        Do not write into it. Any thread may call this.
        """
        rgba = None if self._kept is None else self._kept.get(index)
        if rgba is None:
            frame = self.frames.get(index)
            rgba = torch.cat([frame.rgb, frame.alpha])
            if self._kept is not None:
                self._kept[index] = rgba
        return rgba
