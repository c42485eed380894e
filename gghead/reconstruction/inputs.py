"""The views of one head that a reconstruction is made of.

They come from captures, a folder with labels, or photos.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.data.backdrop import foreground
from gghead.data.captures import Captures, choose_views
from gghead.data.files import is_image
from gghead.torch_utils.errors import MissingFile, UserError

_MOST = 64  # images without records that are still taken for views of one person


@dataclass(frozen=True, eq=False)
class InputViews:
    """V images of one head.

    Raises ``ValueError`` for shapes that do not fit together, ``UserError`` without a view, for an
    image or camera with numbers that are not finite, and for a camera that is none.
    """

    rgb: Tensor  # float32 [V, 3, H, W] in [0, 1], over white where there are masks
    alpha: Tensor  # float32 [V, 1, H, W] in [0, 1]; 1 everywhere without masks
    cameras: Cameras  # [V]
    names: tuple[str, ...]
    masked: bool = True
    """Whether ``alpha`` says where the head is."""

    def __post_init__(self) -> None:
        count = len(self.rgb)
        if not count:
            raise UserError("There are no views to reconstruct a head from; name at least one.")
        height, width = self.rgb.shape[-2:]
        if self.rgb.shape != (count, 3, height, width) or self.alpha.shape != (
            count,
            1,
            height,
            width,
        ):
            raise ValueError(
                "Views must be images [V, 3, H, W] with alpha [V, 1, H, W], but they have the"
                f" shapes {list(self.rgb.shape)} and {list(self.alpha.shape)}."
            )
        if tuple(self.cameras.shape) != (count,) or len(self.names) != count:
            raise ValueError(
                f"There are {count} views, but cameras of the shape {list(self.cameras.shape)} and "
                f"{len(self.names)} names: every view needs its camera."
            )
        for name, image in zip(self.names, torch.cat([self.rgb, self.alpha], 1), strict=True):
            if not bool(torch.isfinite(image).all()):
                raise UserError(
                    f"The image of view {name} holds NaN or infinite numbers; make it again."
                )
        self.cameras.validate("The camera of view")  # by number, the names may be long

    @classmethod
    def of(
        cls,
        rgb: Tensor,
        alpha: Tensor,
        cameras: Cameras,
        names: Sequence[str],
        masked: bool = True,
        device: torch.device | str = "cpu",
        backdrop: Tensor | None = None,
    ) -> "InputViews":
        """Put uint8 images [V, 3, H, W] over white by their alpha [V, 1, H, W].

        ``backdrop`` as in FrameSet.
        """
        rgb, alpha = (value.to(device).float() / 255 for value in (rgb, alpha))
        return cls(
            foreground(rgb, alpha, backdrop) + (1 - alpha),
            alpha,
            cameras.to(device),
            tuple(names),
            masked,
        )

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.rgb.shape[-1], self.rgb.shape[-2]

    def pick(self, names: Sequence[str]) -> "InputViews":
        """The views of these names, in that order."""
        at = [self.names.index(name) for name in names]
        return InputViews(self.rgb[at], self.alpha[at], self.cameras[at], tuple(names), self.masked)

    def mirror(self) -> "InputViews":
        """Left and right swapped, images and cameras: views of the mirrored head."""
        return InputViews(
            self.rgb.flip(-1), self.alpha.flip(-1), self.cameras.mirror(), self.names, self.masked
        )


def from_captures(
    captures: Captures,
    subject: str | None = None,
    expression: str | None = None,
    views: Sequence[str] | None = None,  # names of cameras or of images; None = all
    device: torch.device | str = "cpu",
) -> InputViews:
    """Take views of one person at one instant.

    Without ``subject`` the captures must show one person only; without ``expression`` the first one
    is taken. Images that come with labels alone (an EG3D folder) count as views of one person.
    Raises ``UserError`` for names that do not exist, and for views of different people or instants.
    """
    where = captures.images.source.path
    if views is not None and not views:
        raise UserError("`views` names no view; name at least one, or leave it out for all.")
    if captures.format == "eg3d" and subject is None:
        indices = _images(captures, views) if views else np.arange(len(captures))
        if not views and len(indices) > _MOST:
            raise UserError(
                f"{where} holds {len(indices)} images and does not say which show the same"
                " person; name those of one person with `views=LIST`."
            )
        return _stack(captures, indices, [_stem(captures.name(int(i))) for i in indices], device)
    if views and not any(_find(view, captures.camera_names) for view in views):
        indices = _images(captures, views)
        _one_instant(captures, indices)
        return _stack(captures, indices, [_stem(captures.name(int(i))) for i in indices], device)
    if subject is None:
        people = np.unique(captures.subject)
        if len(people) > 1:
            raise UserError(
                f"{where} shows {len(people)} people ({_some(captures, people)}); name one with"
                " `subject=NAME`."
            )
        subject = captures.subjects[int(people[0])]
    subject = _find(subject, captures.subjects) or subject
    expression = expression if expression is not None else captures.expressions_of(subject)[0]
    expression = _find(expression, captures.moments) or expression
    names = captures.cameras_of(subject, expression)
    chosen = [_find(view, captures.camera_names) or view for view in views] if views else names
    if len(set(chosen)) < len(chosen):
        raise UserError(f"`views='{','.join(views or ())}'` names a view twice; name each once.")
    taken = captures.views(subject, expression, list(chosen))
    return InputViews.of(
        taken.rgb, taken.alpha, taken.cameras, chosen, captures.has_masks, device, captures.backdrop
    )


def read_inputs(
    path: str | os.PathLike,
    size: int,
    *,
    subject: str | None = None,
    expression: str | None = None,
    views: Sequence[str] | None = None,
    count: int | None = None,
    camera: str | None = None,
    masks: str | None = None,
    landmarker: str = "mediapipe",
    device: torch.device | str = "cpu",
) -> InputViews:
    """Read views from a data set that ``gghead.data.formats`` knows, or from photos.

    Args:
        path: Data set, folder with ``dataset.json``, or one photo.
        size: Pixels a side that the network works at.
        subject, expression, views: See ``from_captures``.
        count: Take only so many of these, evenly spread over those in front.
        camera: "label", or where the cameras of photos come from: auto, frontal, or a file
            (``open_targets``). None: "label", or for photos without labels "auto".
        masks: For photos, as ``open_targets``.
        landmarker: Of ``camera="auto"``.

    Raises ``UserError`` as ``from_captures`` and ``open_targets``, for an image without a camera,
    and for options that have no meaning for the data.
    """
    from gghead.data import formats

    path = Path(path)
    if not path.exists():
        raise MissingFile(
            f"{path} does not exist; name a data set, a folder of images with dataset.json, or an"
            " image."
        )
    photo = path.is_file() and is_image(path.name)
    plain = path.is_dir() and not any(file.suffix in (".json", ".zip") for file in path.iterdir())
    if (
        photo
        or camera not in (None, "label")
        or (plain and any(is_image(file.name) for file in path.iterdir()))
    ):
        for option, value in (("subject", subject), ("expression", expression)):
            if value is not None:
                raise UserError(
                    f"`{option}='{value}'` is for captures, which say who does what; {path} is"
                    " read as photos, so leave it out."
                )
        return _evenly(_photos(path, size, views, camera, masks, landmarker, device), count)
    if masks is not None:
        raise UserError(
            f"`masks='{masks}'` is for photos, but {path} is read as a data set, whose own masks"
            " are taken; leave it out, or give `camera=FILE` (its dataset.json) to read its"
            " images as photos."
        )
    captures = formats.read(path)
    if not isinstance(captures, Captures):
        raise UserError(
            f"{path} is a {captures.kind} of one camera, but a reconstruction needs views of one"
            " instant; name multi-view captures or a folder of images with dataset.json."
        )
    if captures.format == "eg3d" and not views:
        _require_labels(captures)
    return _evenly(from_captures(captures.resize(size), subject, expression, views, device), count)


def _evenly(views: InputViews, count: int | None) -> InputViews:
    if count is None:
        return views
    return views.pick(choose_views(views.names, views.cameras, [count], targets=0).inputs[count])


def _photos(
    path: Path,
    size: int,
    views: Sequence[str] | None,
    camera: str | None,
    masks: str | None,
    landmarker: str,
    device: torch.device | str,
) -> InputViews:
    from gghead.inversion.targets import open_targets

    reader = open_targets(path, size, camera, masks, landmarker)
    wanted = range(len(reader))
    if views:
        names = [reader.name(index) for index in wanted]
        if missing := [view for view in views if _stem(view).replace("/", "_") not in names]:
            raise UserError(f"{path} has no image '{missing[0]}'; it has {', '.join(names[:8])}.")
        wanted = [names.index(_stem(view).replace("/", "_")) for view in views]
    found = [reader.read(index) for index in wanted]
    alphas = [target.mask for target in found if target.mask is not None]
    if alphas and len(alphas) < len(found):
        raise UserError(
            f"Some images of {path} have masks and others none; add those missing, or use"
            " `masks='none'`."
        )
    rgb = torch.stack([target.rgb for target in found])
    alpha = torch.stack(alphas) if alphas else torch.full_like(rgb[:, :1], 255)
    cameras = Cameras.from_label(torch.stack([target.label for target in found]))
    names = [target.name for target in found]
    return InputViews.of(rgb, alpha, cameras, names, bool(alphas), device)


def _require_labels(captures: Captures) -> None:
    """A folder of views must not hold images without a camera.

    Which they are would go unnoticed.
    """
    source = captures.images.source
    known = {captures.name(index) for index in range(len(captures))}
    others = [
        name
        for name in source.names()
        if is_image(name) and name not in known and "mask" not in name.lower()
    ]
    if others:
        raise UserError(
            f"{others[0]} in {source.path} has no camera; add its label to dataset.json, or name"
            " the views to use with `views=LIST`."
        )


def _stack(
    captures: Captures, indices: np.ndarray, names: Sequence[str], device: torch.device | str
) -> InputViews:
    sizes = {captures.size(int(index)) for index in indices}
    if len(sizes) > 1:
        raise UserError(
            f"The views in {captures.images.source.path} differ in size; give a resolution."
        )
    frames = [captures.get(int(index)) for index in indices]
    cameras = captures.cameras[torch.from_numpy(np.asarray(indices))].to(torch.float32)
    rgb, alpha = (
        torch.stack([getattr(frame, key) for frame in frames]) for key in ("rgb", "alpha")
    )
    return InputViews.of(rgb, alpha, cameras, names, captures.has_masks, device, captures.backdrop)


def _images(captures: Captures, views: Sequence[str]) -> np.ndarray:
    """Indices of images by their names, with or without folder and ending where that is clear."""
    where, by_name = captures.images.source.path, {}
    for index in range(len(captures)):
        name = captures.name(index)
        for key in {name, _stem(name), _stem(name).rpartition("/")[2]}:
            by_name.setdefault(key, []).append(index)
    found = []
    for view in views:
        at = by_name.get(view, [])
        if len(at) != 1:
            what = f"{len(at)} images called" if at else "no image or camera"
            shown = ", ".join(captures.camera_names[:8]) or "none"
            raise UserError(
                f"{where} has {what} '{view}'; its cameras are {shown}"
                f"{' …' if len(captures.camera_names) > 8 else ''}."
            )
        found.append(at[0])
    if len(set(found)) < len(found):
        raise UserError(f"`views='{','.join(views)}'` names an image twice; name each once.")
    return np.array(found)


def _one_instant(captures: Captures, indices: np.ndarray) -> None:
    for codes, names, what in (
        (captures.subject, captures.subjects, "different people"),
        (captures.moment, captures.moments, "different expressions"),
    ):
        first, other = (
            int(indices[0]),
            next((int(i) for i in indices if codes[i] != codes[indices[0]]), None),
        )
        if other is not None:
            raise UserError(
                f"These are views of {what}: {captures.name(first)} shows {names[codes[first]]}, "
                f"{captures.name(other)} shows {names[codes[other]]}; name views of one."
            )


def _find(wanted: str, names: Sequence[str]) -> str | None:
    """The name itself, or the one that is the same number ("003" for "3"), or None."""
    wanted = str(wanted)
    if wanted in names:
        return wanted
    same = [
        name
        for name in names
        if wanted.isdecimal() and name.isdecimal() and int(name) == int(wanted)
    ]
    return same[0] if len(same) == 1 else None


def _some(captures: Captures, people: np.ndarray) -> str:
    shown = ", ".join(captures.subjects[int(code)] for code in people[:6])
    return shown + (" …" if len(people) > 6 else "")


def _stem(name: str) -> str:
    return str(Path(name).with_suffix(""))
