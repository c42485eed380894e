"""Everything that is drawn at random about a person, an expression and a light."""

from dataclasses import dataclass

import numpy as np

from gghead.data.synthetic.identity import sample_coefficients
from gghead.data.synthetic.noise import linear

# Anchors in sRGB, from light to dark.
SKIN = [
    (250, 224, 208),
    (241, 208, 186),
    (229, 190, 160),
    (212, 168, 132),
    (186, 140, 102),
    (152, 108, 76),
]
SKIN += [(120, 82, 58), (92, 62, 46), (66, 45, 36)]
HAIR = [
    (22, 18, 17),
    (38, 28, 23),
    (66, 45, 31),
    (97, 66, 42),
    (139, 100, 62),
    (184, 146, 95),
    (222, 194, 146),
]
REDHEAD, GRAY, WHITE = (146, 70, 34), (128, 126, 124), (214, 210, 204)
IRIS = [
    (58, 36, 22),
    (82, 52, 28),
    (110, 76, 40),
    (104, 104, 62),
    (84, 112, 88),
    (92, 124, 150),
    (120, 134, 142),
]
CLOTHES = [
    (32, 34, 40),
    (238, 236, 230),
    (44, 62, 104),
    (132, 38, 44),
    (86, 104, 82),
    (120, 122, 128),
    (190, 160, 120),
]
CLOTHES += [(70, 44, 78), (208, 178, 62), (66, 120, 140), (196, 120, 128), (24, 70, 60)]
# relative frequency of haircuts
MEN = {
    "buzz": 0.07,
    "crop": 0.13,
    "short": 0.16,
    "quiff": 0.11,
    "swept": 0.10,
    "fringe": 0.08,
    "curly": 0.08,
    "bald": 0.08,
    "horseshoe": 0.05,
    "afro": 0.03,
    "long": 0.03,
    "wavy": 0.03,
    "topknot": 0.03,
    "mohawk": 0.02,
}
WOMEN = {
    "long": 0.19,
    "wavy": 0.13,
    "parted": 0.14,
    "bob": 0.15,
    "bun": 0.07,
    "topknot": 0.03,
    "ponytail": 0.10,
    "pigtails": 0.04,
    "fringe": 0.05,
    "curly": 0.07,
    "short": 0.05,
    "afro": 0.02,
    "buzz": 0.01,
}
HAIR_STYLES = tuple(dict.fromkeys((*MEN, *WOMEN)))


@dataclass(frozen=True)
class Person:
    """One subject; colors are linear RGB [3] float32, lengths world units."""

    shape: np.ndarray  # [K] coefficients of identity.MODES
    skin: np.ndarray
    redness: float  # of cheeks, nose and ears, 0..1
    freckles: float  # 0..1
    age: float  # 0 young … 1 old: wrinkles, bags under the eyes
    lips: np.ndarray
    iris: np.ndarray
    brows: np.ndarray
    brow_thickness: float
    brow_arch: float
    lashes: float  # darkness of the line along the upper lid, 0..1
    hair: np.ndarray
    hair_style: str
    hair_length: float  # lowest y of long hair
    hair_volume: float  # thickness over the scalp
    hair_curl: float  # 0 straight … 1 curly
    hairline: float  # shift of the hairline in radians, > 0 lower
    part: float  # azimuth of the parting, radians
    beard: str  # "none", "stubble", "moustache", "goatee" or "full"
    beard_density: float
    clothes: np.ndarray
    trim: np.ndarray
    collar: float  # height of the collar's upper edge at the back
    neckline: float  # how much lower it is in front
    glasses: str  # "none", "round" or "square"
    frame: np.ndarray
    seed: float  # offset into the noise, so that no two people share strands and freckles


@dataclass(frozen=True)
class Light:
    """A key light, a fill light and an ambient dome that is brighter above.

    Directions are unit, world frame.
    """

    key: np.ndarray  # [3] direction towards the light
    key_color: np.ndarray  # [3]
    fill: np.ndarray
    fill_color: np.ndarray
    sky: np.ndarray  # [3] ambient from above
    ground: np.ndarray  # [3] ambient from below


def _along(anchors: list, position: float) -> np.ndarray:
    grid = np.arange(len(anchors))
    return np.array(
        [np.interp(position, grid, [anchor[c] for anchor in anchors]) for c in range(3)]
    )


def sample_person(random: np.random.RandomState) -> Person:
    """Draw a subject."""
    masculinity = float(random.choice([-1.0, 1.0])) * random.uniform(0.3, 1.2)
    man = masculinity > 0
    tone = (len(SKIN) - 1) * random.beta(1.0, 1.35)
    skin = linear(_along(SKIN, tone) * np.exp(random.normal(0, 0.02, 3)))
    fair = tone < 3.2
    age = random.uniform(0, 1)
    darkness = random.uniform(0, 6) if fair else random.uniform(0, 1.6)
    hair = _along(HAIR, darkness)
    if fair and random.uniform() < 0.1:
        hair = np.array(REDHEAD, float) * random.uniform(0.8, 1.3)
    if age > 0.75:
        hair = hair + random.uniform(0.4, 1.0) * (
            _along([GRAY, WHITE], random.uniform(0, 1)) - hair
        )
    hair = linear(np.clip(hair * np.exp(random.normal(0, 0.06)), 8, 235))
    iris = linear(
        _along(IRIS, random.uniform(0, len(IRIS) - 1) if fair else random.uniform(0, 1.4))
    )

    styles = dict(MEN if man else WOMEN)
    if not fair:
        styles["afro"] = styles["afro"] + 0.14
    weights = np.array(list(styles.values()))
    style = str(random.choice(list(styles), p=weights / weights.sum()))

    natural = skin * linear((236, 176, 168)) / linear((250, 224, 208))
    painted = linear(
        _along([(150, 40, 48), (176, 60, 70), (120, 30, 50), (190, 96, 92)], random.uniform(0, 3))
    )
    lips = (
        natural if man else natural + float(random.choice([0.0, 0.25, 0.7])) * (painted - natural)
    )
    beard = "none"
    if man:
        beard = str(
            random.choice(
                ["none", "stubble", "moustache", "goatee", "full"], p=[0.5, 0.18, 0.06, 0.09, 0.17]
            )
        )
    clothes, trim = (linear(CLOTHES[random.randint(len(CLOTHES))]) for _ in range(2))
    return Person(
        shape=sample_coefficients(random, masculinity),
        skin=skin,
        redness=random.uniform(0.15, 1.0),
        freckles=random.uniform(0.4, 1.0) if fair and random.uniform() < 0.15 else 0.0,
        age=age,
        lips=lips,
        iris=iris,
        brows=np.minimum(hair, linear((112, 92, 76))) * random.uniform(0.5, 0.9),
        brow_thickness=random.uniform(0.0065, 0.0115) if man else random.uniform(0.0045, 0.0085),
        brow_arch=random.uniform(0.0, 0.008) if man else random.uniform(0.003, 0.014),
        lashes=random.uniform(0.35, 0.6) if man else random.uniform(0.6, 1.0),
        hair=hair,
        hair_style=style,
        hair_length=(
            random.uniform(-0.21, -0.12) if style == "bob" else random.uniform(-0.46, -0.28)
        ),
        hair_volume=random.uniform(0.018, 0.042),
        hair_curl=random.uniform(0.6, 1.0) if style in ("afro", "curly") else random.beta(1.2, 2.5),
        hairline=random.normal(0.0, 0.05),
        part=float(random.choice([0.0, -0.35, 0.35])) + random.normal(0, 0.06),
        beard=beard,
        beard_density=random.uniform(0.6, 1.0),
        clothes=clothes,
        trim=trim,
        collar=float(random.choice([-0.20, -0.26, -0.29, -0.32])) + random.normal(0, 0.008),
        neckline=random.uniform(0.02, 0.14),
        glasses=str(random.choice(["none", "round", "square"], p=[0.87, 0.06, 0.07])),
        frame=linear(_along([(20, 20, 22), (60, 40, 30), (150, 150, 155)], random.uniform(0, 2))),
        seed=random.uniform(0, 1000),
    )


def _direction(yaw: float, pitch: float) -> np.ndarray:
    return np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])


def sample_light(random: np.random.RandomState) -> Light:
    """Draw a light fixed to the head.

    A soft key comes from above, mostly in front, and a weaker fill from the other side.
    """
    yaw = random.normal(0, 0.7)
    warm = np.exp(random.normal(0, 0.06) * np.array([1.0, 0.0, -1.0]))
    strength = random.uniform(0.45, 0.85)
    ambient = random.uniform(0.30, 0.48)
    parts = {
        "key": _direction(yaw, random.uniform(0.2, 0.9)),
        "key_color": strength * warm,
        "fill": _direction(-np.sign(yaw) * random.uniform(0.5, 1.2), random.uniform(-0.1, 0.4)),
        "fill_color": random.uniform(0.08, 0.28) / warm,
        "sky": ambient * np.array([0.98, 1.0, 1.04]),
        "ground": ambient * random.uniform(0.45, 0.8) * np.array([1.05, 1.0, 0.94]),
    }
    return Light(**{name: value.astype(np.float32) for name, value in parts.items()})


# kinds of expression: how often, and the blendshapes at full strength, both sides alike
EXPRESSIONS: dict[str, tuple[float, dict[str, float]]] = {
    "calm": (0.20, {"mouthSmile": 0.25}),
    "smile": (0.18, {"mouthSmile": 0.8, "cheekSquint": 0.4, "eyeSquint": 0.25}),
    "grin": (
        0.10,
        {"mouthSmile": 0.8, "mouthUpperUp": 0.55, "cheekSquint": 0.5, "mouthLowerDown": 0.35},
    ),
    "laugh": (0.11, {"mouthSmile": 0.9, "cheekSquint": 0.7, "eyeSquint": 0.5, "jawOpen": 0.60}),
    "talk": (0.13, {"jawOpen": 0.45, "mouthLowerDown": 0.3}),
    "rounded": (0.06, {"jawOpen": 0.40, "mouthFunnel": 0.7}),
    "surprise": (
        0.05,
        {"browOuterUp": 0.9, "eyeWide": 0.8, "jawOpen": 0.50, "browInnerUp": 0.9},
    ),
    "sad": (0.04, {"browInnerUp": 0.8, "mouthFrown": 0.8}),
    "angry": (0.04, {"browDown": 1.0, "eyeSquint": 0.5, "mouthFrown": 0.4}),
    "shout": (0.02, {"browDown": 0.7, "jawOpen": 0.95, "mouthUpperUp": 0.5, "noseSneer": 0.5}),
    "disgust": (0.02, {"noseSneer": 0.9, "mouthUpperUp": 0.5, "browDown": 0.4}),
    "pout": (0.03, {"mouthPucker": 0.9}),
    "wink": (0.02, {"eyeBlinkLeft": 1.0, "mouthSmile": 0.5}),
}
_WHOLE = ("jawOpen", "browInnerUp", "mouthPucker", "mouthFunnel", "eyeBlinkLeft")


def sample_expression(random: np.random.RandomState) -> dict[str, float]:
    """Draw blendshape weights: one of `EXPRESSIONS` at a random strength.

    Often brows, lids or a jaw do something of their own.
    """
    shares = np.array([share for share, _ in EXPRESSIONS.values()])
    kind = str(random.choice(list(EXPRESSIONS), p=shares / shares.sum()))
    amount = random.uniform(0.35, 1.0)
    weights: dict[str, float] = {}

    def add(name: str, value: float) -> None:
        if name in _WHOLE:
            weights[name] = weights.get(name, 0.0) + value
            return
        lean = random.normal(0, 0.08)
        for side, share in (("Left", 1 + lean), ("Right", 1 - lean)):
            weights[name + side] = weights.get(name + side, 0.0) + value * share

    for name, value in EXPRESSIONS[kind][1].items():
        add(name, value * amount * random.uniform(0.8, 1.2))
    brows = str(
        random.choice(["none", "up", "inner", "down", "one"], p=[0.5, 0.2, 0.1, 0.12, 0.08])
    )
    strength = random.uniform(0.2, 0.8)
    if brows == "up":
        add("browOuterUp", strength)
        add("browInnerUp", strength)
    elif brows == "inner":
        add("browInnerUp", strength)
    elif brows == "down":
        add("browDown", strength)
    elif brows == "one":
        side = str(random.choice(["Left", "Right"]))
        weights[f"browOuterUp{side}"] = weights.get(f"browOuterUp{side}", 0.0) + strength
    if random.uniform() < 0.12:
        aside = str(random.choice(["jawLeft", "jawRight", "mouthLeft", "mouthRight"]))
        weights[aside] = random.uniform(0.1, 0.5)
    if random.uniform() < 0.15:
        add("eyeWide", random.uniform(0.1, 0.6))
    closed = random.uniform() < 0.05
    lids = 1.0 if closed else max(0.0, random.normal(0.05, 0.1))
    if kind != "wink":
        weights["eyeBlinkLeft"] = weights["eyeBlinkRight"] = lids
    return {name: float(np.clip(value, 0, 1)) for name, value in weights.items()}


def sample_gaze(random: np.random.RandomState) -> tuple[float, float]:
    """Draw where the eyes look, a third straight ahead.

    Radians to the subject's left and upwards.
    """
    yaw, pitch = random.normal(0, 0.20), random.normal(0.0, 0.07)
    if random.uniform() < 0.35:
        return 0.0, 0.0
    return float(np.clip(yaw, -0.45, 0.45)), float(np.clip(pitch, -0.18, 0.15))
