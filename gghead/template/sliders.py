"""Names of expression coefficients.

ARKit's, those of ICT-FaceKit (``eyeBlink_L``) and of Live Link Face (``EyeBlinkLeft``), and what a
head has of them.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gghead.torch_utils.errors import UserError

_PAIRS = (
    "browDown",
    "browOuterUp",
    "cheekSquint",
    "eyeBlink",
    "eyeLookDown",
    "eyeLookIn",
    "eyeLookOut",
    "eyeLookUp",
    "eyeSquint",
    "eyeWide",
    "mouthDimple",
    "mouthFrown",
    "mouthLowerDown",
    "mouthPress",
    "mouthSmile",
    "mouthStretch",
    "mouthUpperUp",
    "noseSneer",
)
_SINGLES = (
    "browInnerUp",
    "cheekPuff",
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthFunnel",
    "mouthLeft",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "tongueOut",
)
ARKIT = (*_SINGLES, *(name + side for name in _PAIRS for side in ("Left", "Right")))
"""The 52 names of Apple's ARFaceAnchor.BlendShapeLocation."""
_SIDES = {"_L": "Left", "_R": "Right"}


_HALVES = {
    whole + side: whole for whole in ("browInnerUp", "cheekPuff") for side in ("Left", "Right")
}
_KNOWN = {*ARKIT, *_HALVES}
_SPELLINGS = {name.lower(): name for name in (*_KNOWN, *_PAIRS)}


def canonical(name: str) -> str:
    """ARKit's spelling of the names of ICT-FaceKit and Live Link Face.

    ``eyeBlink_L``, ``EyeBlinkLeft`` -> ``eyeBlinkLeft``. Other names stay as they are.
    """
    plain = name[:-2] + _SIDES[name[-2:]] if name[-2:] in _SIDES else name
    return _SPELLINGS.get(plain.lower(), plain)


def is_known(name: str) -> bool:
    """Whether it is a name of ARKit, ICT-FaceKit or Live Link Face."""
    return canonical(name) in _KNOWN


def mirror_name(name: str) -> str:
    """The name of the same thing on the other side of the face; else the name itself.

    ``jawLeft`` -> ``jawRight``.
    """
    for left, right in (("Left", "Right"), ("_L", "_R")):
        for one, other in ((left, right), (right, left)):
            if name.endswith(one):
                return name.removesuffix(one) + other
    return name


@dataclass(frozen=True)
class Sliders:
    """The coefficients that a head can be driven by."""

    coefficient_names: tuple[str, ...]
    expression_model: str = "ARKit blendshapes"
    """Said in messages."""
    owner: str = "this head"
    """Said in messages."""

    @property
    def width(self) -> int:
        return len(self.coefficient_names)

    def knows(self, name: str) -> bool:
        """Whether it is a name of ARKit or ICT-FaceKit, or of these sliders or both halves."""
        plain, known = canonical(name), {*_KNOWN, *map(canonical, self.coefficient_names)}
        return plain in known or (plain + "Left" in known and plain + "Right" in known)

    def reaches(self, name: str) -> bool:
        """Whether a coefficient of this name moves one of these sliders."""
        plain, own = canonical(name), set(map(canonical, self.coefficient_names))
        return plain in own or {plain + "Left", plain + "Right"} <= own or _HALVES.get(plain) in own

    def take(
        self, names: Sequence[str], values: Tensor, what: str
    ) -> tuple[Tensor, tuple[str, ...]]:
        """Columns ``values`` [T, len(names)] -> [T, width], and the names that had to be left out.

        Spellings of ARKit, ICT-FaceKit and Live Link Face are one; an undivided name
        (``cheekPuff``) moves both halves where only those exist, and halves move an undivided one
        by their mean. What is left out are expressions of ARKit or ICT-FaceKit that do not exist
        here, and are not zero.

        Raises ``UserError`` for a name that nobody knows, with the nearest one, and for one that is
        there twice.
        """
        spelt = [canonical(name) for name in names]
        twice = next(
            (name for name, plain in zip(names, spelt, strict=True) if spelt.count(plain) > 1), None
        )
        if twice is not None:
            raise UserError(
                f"{what} has the coefficient '{twice}' twice, in one spelling or two; give it once."
            )
        own = {canonical(name): index for index, name in enumerate(self.coefficient_names)}
        result, left_out = values.new_zeros(len(values), self.width), []
        for column, name in enumerate(names):
            plain = canonical(name)
            parts = [plain] if plain in own else [plain + "Left", plain + "Right"]
            if all(part in own for part in parts):
                for part in parts:
                    result[:, own[part]] += values[:, column]
            elif plain in _HALVES and _HALVES[plain] in own:
                result[:, own[_HALVES[plain]]] += values[:, column] / 2
            elif plain in _KNOWN:
                left_out += [name] if bool(values[:, column].any()) else []
            else:
                near = difflib.get_close_matches(plain, [*own, *_KNOWN], n=1)
                hint = (
                    f"did you mean '{near[0]}'?"
                    if near
                    else f"it has {', '.join(self.coefficient_names[:6])} …"
                )
                raise UserError(
                    f"{what} has a coefficient '{name}', which {self.owner} has no shape for;"
                    f" {hint}"
                )
        return result, tuple(left_out)

    def matrix(self, names: Sequence[str]) -> Tensor:  # [len(names), width]
        """How far each coefficient moves each slider.

        Rows of zeros for names without a meaning here.
        """
        known = [index for index, name in enumerate(names) if self.knows(name)]
        rows = torch.zeros(len(names), self.width)
        if known:
            rows[known], _ = self.take(
                [names[index] for index in known], torch.eye(len(known)), "The data"
            )
        return rows

    def table(
        self,
        weights: "str | Mapping[str, float | Sequence[float] | Tensor] | Tensor",
        # [T, width], left out
        names: Sequence[str] | None = None,
    ) -> tuple[Tensor, tuple[str, ...]]:
        """Weights of any form as a table, and the names that had to be left out (see ``take``).

        A text ``jawOpen=1,eyeBlinkLeft=0.5``; a mapping from names to a number, or to T numbers; or
        a tensor [T, len(names)], ``names`` being those of this head by default.

        Raises ``UserError`` for names that nobody knows and numbers that are not finite,
        ``ValueError`` for numbers that do not fit.
        """
        if isinstance(weights, str):
            weights = parse_weights(weights)
        if isinstance(weights, Mapping):
            if not weights:
                return torch.zeros(1, self.width), ()
            device = next(
                (value.device for value in weights.values() if isinstance(value, Tensor)), None
            )
            columns = [
                torch.as_tensor(value, dtype=torch.float32, device=device).flatten()
                for value in weights.values()
            ]
            lengths = {len(column) for column in columns} - {1}
            if len(lengths) > 1 or 0 in lengths:
                raise ValueError(
                    "Weights must have one number or one per frame, but there are"
                    f" {sorted(lengths)}."
                )
            frames = max(lengths, default=1)
            names, values = (
                tuple(weights),
                torch.stack([column.expand(frames) for column in columns], 1),
            )
        else:
            values = torch.as_tensor(weights)
            values = values[None] if values.ndim == 1 else values
            if names is None:
                names = self.coefficient_names
            if values.ndim != 2 or values.shape[1] != len(names):
                raise ValueError(
                    f"Weights of {len(names)} names must have the shape [T, {len(names)}], but it"
                    f" is {list(values.shape)}; give their names."
                )
        if not bool(values.isfinite().all()):
            raise UserError("Weights must be finite numbers.")
        return self.take(names, values, "The table of weights")


def parse_weights(text: str) -> dict[str, float]:
    """``jawOpen=1,eyeBlinkLeft=0.5`` -> numbers by name. Raises ``UserError`` for anything else."""
    result: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        try:
            value = float(number) if name and equals else None
        except ValueError:
            value = None
        if value is None:
            raise UserError(
                f"'{part}' is no weight; write NAME=NUMBER,NAME=NUMBER such as"
                " jawOpen=1,eyeBlinkLeft=0.5."
            )
        if name in result:
            raise UserError(f"The weight of '{name}' is given twice.")
        result[name] = value
    if not result:
        raise UserError(
            "No weight is given; write NAME=NUMBER,NAME=NUMBER such as jawOpen=1,eyeBlinkLeft=0.5."
        )
    return result
