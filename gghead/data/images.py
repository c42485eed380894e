"""Encoded images to arrays and back to one size: decoding with all its faults, resizing with alpha.

Formats are PNG, JPEG, WebP, BMP, still GIF and, where PIL was built with it, AVIF. Headers are read
here and not by PIL's ``Image.open``, which takes three to five times as long for images in a zip.
An image that declares an absurd size is refused before anything looks at its pixels.
"""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps

from gghead.torch_utils.errors import UserError

MAX_PIXELS = 80_000_000  # below PIL's own limit, so PIL neither warns nor refuses
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "AVIF")
_PNG_CHANNELS = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
_JPEG_CHANNELS = {1: "L", 3: "RGB", 4: "CMYK"}
# What PIL's readers raise on damaged files; a Warning only where the caller turned warnings into
# errors.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
    OverflowError,
    Warning,
    Image.DecompressionBombError,
)


class BrokenImage(UserError):
    """One image or mask cannot be used; the others may be fine."""


@dataclass(frozen=True)
class Header:
    """What a file says of its image before any pixel is decoded."""

    width: int
    """Of the stored image, before any turning."""
    height: int
    """Of the stored image, before any turning."""
    mode: str
    """PIL mode; 16-bit files have that of their 8-bit version."""
    orientation: int = 1
    """EXIF orientation 1 … 8."""
    exif_at: int = -1
    """Byte position of a JPEG's EXIF marker code, -1 if there is none."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the upright image, as ``decode_image`` returns it."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def parse_header(data: bytes) -> Header | None:
    """Return an image file's header, or None where ``data`` does not tell.

    ``data`` is a file or its first part.
    """
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
            width, height, _, color = struct.unpack(">IIBB", data[16:26])
            return Header(width, height, _PNG_CHANNELS.get(color, "RGB"), _png_orientation(data))
        if data[:2] == b"\xff\xd8":
            return _jpeg_header(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_header(data)
        if data[:2] == b"BM" and struct.unpack("<I", data[14:18])[0] >= 40:
            width, height, _, bits = struct.unpack("<iiHH", data[18:30])
            return Header(width, abs(height), {1: "1", 8: "P"}.get(bits, "RGB"))
        if data[:4] == b"GIF8":
            return Header(*struct.unpack("<HH", data[6:10]), "P")
    except (struct.error, IndexError):
        pass  # cut off inside the header
    return None


def decode_image(data: bytes, mode: str, where: str) -> Image.Image:
    """Return the upright, decoded image in PIL mode ``mode`` (RGB, RGBA or L).

    EXIF orientation is applied; 16 bits are scaled to 8; CMYK becomes RGB (JPEGs as Adobe writes
    them: inverted); of a phone's multi-image JPEG the main image counts.

    Raises:
        BrokenImage: naming ``where``, for a damaged, truncated, animated or absurdly large image.
    """
    with open_image(data, where) as image:
        header = parse_header(data)
        try:
            if getattr(image, "is_animated", False) and image.format != "MPO":
                count = getattr(image, "n_frames", "several")
                raise BrokenImage(
                    f"{where} is animated ({count} frames); save the one frame that you want."
                )
            image.load()
            if header is not None and header.orientation != 1:
                image.info.pop("exif", None)  # PIL would warn about other, damaged entries of it
                image.getexif()[ExifTags.Base.Orientation] = header.orientation
                image = ImageOps.exif_transpose(image)
            return _convert(image, mode)
        except UserError:
            raise
        except _BROKEN as error:
            raise BrokenImage(
                f"{where} cannot be decoded ({error}); replace or remove it."
            ) from error


def open_image(data: bytes, where: str) -> Image.Image:
    """Open an encoded image with PIL (decoding happens later).

    Raises ``BrokenImage`` if it is not one or too large.
    """
    header = parse_header(data)
    if header is not None:
        if header.width * header.height > MAX_PIXELS:
            raise BrokenImage(
                f"{where} claims {header.width}x{header.height} pixels, more than"
                f" {MAX_PIXELS // 10**6} million; it is broken or a trap, so replace, shrink or"
                " remove it."
            )
        # PIL warns about damaged EXIF, and we have read what we need: rename the segment
        if header.exif_at >= 0:
            data = data[: header.exif_at] + b"\xef" + data[header.exif_at + 1 :]
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except _BROKEN as error:
        raise BrokenImage(f"{where} is not a readable image; replace or remove it.") from error


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit gray: PIL would clip at 255
        image = Image.fromarray(
            np.rint(np.asarray(image, np.float64).clip(0, 65535) / 257).astype(np.uint8)
        )
    elif image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")
    elif image.mode == "CMYK":
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _png_orientation(data: bytes) -> int:
    at = 33
    while at + 8 <= len(data):
        (size,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        if kind == b"eXIf":
            return _exif_orientation(data[at + 8 : at + 8 + size])
        at += size + 12
    return 1


def _jpeg_header(data: bytes) -> Header | None:
    """Walk the segments (ITU T.81, annex B) to the frame header."""
    at, orientation, exif_at = 2, 1, -1
    while data[at] == 0xFF:
        code = data[at + 1]
        if code == 0xFF:  # a fill byte
            at += 1
            continue
        size = struct.unpack(">H", data[at + 2 : at + 4])[0]
        if code == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            exif_at, orientation = at + 1, _exif_orientation(data[at + 10 : at + 2 + size])
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            _, height, width, channels = struct.unpack(">BHHB", data[at + 4 : at + 10])
            return Header(width, height, _JPEG_CHANNELS.get(channels, "RGB"), orientation, exif_at)
        at += 2 + size
    return None


def _webp_header(data: bytes) -> Header | None:
    """The first chunk holds the size (RFC 9649, section 2.5 - 2.7)."""
    kind = data[12:16]
    if kind == b"VP8X":
        flags, width, height = (
            data[20],
            int.from_bytes(data[24:27], "little"),
            int.from_bytes(data[27:30], "little"),
        )
        mode = "RGBA" if flags & 0x10 else "RGB"
        return Header(width + 1, height + 1, mode, _webp_orientation(data) if flags & 0x08 else 1)
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        return Header(
            (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, "RGBA" if bits >> 28 & 1 else "RGB"
        )
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return Header(width & 0x3FFF, height & 0x3FFF, "RGB")
    return None


def _webp_orientation(data: bytes) -> int:
    at = 12
    while at + 8 <= len(data):
        size = struct.unpack("<I", data[at + 4 : at + 8])[0]
        if data[at : at + 4] == b"EXIF":
            return _exif_orientation(data[at + 8 : at + 8 + size].removeprefix(b"Exif\0\0"))
        at += 8 + size + size % 2
    return 1


def _exif_orientation(block: bytes) -> int:
    """The orientation in a TIFF block; 1 (upright) where it is absent or the block is damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack(order + "I", block[4:8])
        (entries,) = struct.unpack(order + "H", block[at : at + 2])
        for entry in range(at + 2, at + 2 + 12 * entries, 12):
            tag, kind, count, value = struct.unpack(order + "HHIH", block[entry : entry + 10])
            if tag == 0x0112:
                return value if (kind, count) == (3, 1) and 1 <= value <= 8 else 1
    except struct.error:
        return 1  # the block ends too early
    return 1


# PIL widens the kernel when shrinking, so it is antialiased. Hamming's is nearly as sharp as
# Lanczos', and it has no negative lobes: alpha stays in [0, 1] and colors divided by alpha stay
# within those of their surroundings.
FILTER = Image.Resampling.HAMMING


# left, top, right, bottom in pixels of the source, fractions allowed
Box = tuple[float, float, float, float]


def resize_image(
    rgb: np.ndarray,  # [H, W, 3] or [H, W] uint8
    size: int | tuple[int, int],  # side of a square, or (width, height)
    box: Box | None = None,  # the part to show; None = everything
) -> np.ndarray:  # [height, width, 3] or [height, width] uint8
    width, height = (size, size) if isinstance(size, int) else size
    if rgb.shape[:2] == (height, width) and box is None:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((width, height), FILTER, box))


def resize_straight_alpha(
    rgb: np.ndarray,  # [H, W, 3] uint8, color not multiplied by alpha
    alpha: np.ndarray,  # [H, W] uint8
    size: int | tuple[int, int],  # side of a square, or (width, height)
    box: Box | None = None,  # the part to show; None = everything
) -> tuple[np.ndarray, np.ndarray]:
    """Resize with alpha-weighted colors.

    Returns (rgb [height, width, 3], alpha [height, width]) uint8.

    Compositing the result over any background equals, up to rounding, resizing the composite, which
    is what an antialiased camera would see. Where alpha vanishes the plainly resized color is
    kept.
    """
    width, height = (size, size) if isinstance(size, int) else size
    if rgb.shape[:2] == alpha.shape == (height, width) and box is None:
        return rgb, alpha
    alpha = fit_mask(alpha, rgb)
    if alpha.min() == 255:
        return resize_image(rgb, (width, height), box), np.full((height, width), 255, np.uint8)
    weight = alpha.astype(np.float32) / 255
    planes = [weight] + [rgb[..., channel] * weight for channel in range(3)]
    small = [
        np.asarray(Image.fromarray(plane).resize((width, height), FILTER, box)) for plane in planes
    ]
    coverage = np.clip(small[0], 0, 1)  # against rounding
    color = np.stack(small[1:], axis=-1) / np.maximum(coverage, 1e-4)[..., None]
    seen = coverage[..., None] > 0.5 / 255
    plain = resize_image(rgb, (width, height), box)
    color = np.where(seen, np.clip(np.rint(color), 0, 255), plain).astype(np.uint8)
    return color, np.rint(coverage * 255).astype(np.uint8)


def resize_composite(
    rgb: np.ndarray,  # [H, W, 3] uint8, subject and one plain backdrop mixed where alpha is partial
    alpha: np.ndarray,  # [H, W] uint8
    size: int | tuple[int, int],  # side of a square, or (width, height)
    box: Box | None = None,  # the part to show; None = everything
) -> tuple[np.ndarray, np.ndarray]:
    """Resize and keep the mixtures of the smaller image.

    Returns (rgb [height, width, 3], alpha [height, width]) uint8.

    Weighting mixtures by alpha would take backdrop away from the outline, and what is left would
    show dark rims.
    """
    return resize_image(rgb, size, box), resize_image(fit_mask(alpha, rgb), size, box)


def fit_mask(alpha: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """The mask at the image's size."""
    if alpha.shape == rgb.shape[:2]:
        return alpha
    return np.asarray(Image.fromarray(alpha).resize(rgb.shape[1::-1], Image.Resampling.BILINEAR))


def estimate_foreground(
    # [H, W, 3] uint8, a photo: foreground and background mixed where alpha is partial
    rgb: np.ndarray,
    alpha: np.ndarray,  # [H, W] uint8
    radius: float = 0.09,
) -> np.ndarray:  # [H, W, 3] uint8
    """Return the foreground's own color at every pixel by blur fusion.

    Alpha-weighted local means of both layers come first, then the closest foreground that explains
    the photo (Forte 2021, "Approximate Fast Foreground Color Estimation").

    ``radius`` is the half width of the first of two passes as a share of the image width; the
    second is a tenth.
    """
    from scipy.ndimage import uniform_filter

    image = rgb.astype(np.float32)
    weight = (alpha.astype(np.float32) / 255)[..., None]
    front = back = image
    for reach in (radius, radius / 10):
        side = 2 * max(int(reach * rgb.shape[1]), 1) + 1

        def mean(values: np.ndarray, side: int = side) -> np.ndarray:
            # SciPy takes a size per axis, too, which its signature does not say
            return uniform_filter(values, (side, side, 1))  # pyright: ignore[reportArgumentType]

        front_mean = mean(front * weight) / (mean(weight) + 1e-5)
        back = mean(back * (1 - weight)) / (mean(1 - weight) + 1e-5)
        front = np.clip(
            front_mean + weight * (image - weight * front_mean - (1 - weight) * back), 0, 255
        )
    return np.rint(front).astype(np.uint8)
