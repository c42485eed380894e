"""Images as they come: rotated by EXIF, CMYK, 16 bits, animated, broken, absurdly large; and zips
that are traps."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from gghead.data.files import image_header, open_source
from gghead.data.images import MAX_PIXELS, decode_image, parse_header
from gghead.torch_utils.errors import UserError


def encode(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width=24, height=16):
    """Blocks of 8x8, so that JPEG keeps them and every corner differs."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for y in range(0, height, 8):
        for x in range(0, width, 8):
            pixels[y : y + 8, x : x + 8] = (40 + 8 * x, 40 + 8 * y, 60 + x + y)
    return pixels


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def header_of(tmp_path, data, name="x.png"):
    (tmp_path / name).write_bytes(data)
    return image_header(open_source(tmp_path), name)


def refused(match, data, mode="RGB"):
    with pytest.raises(UserError, match=match) as caught:
        decode_image(data, mode, "photo.png")
    assert str(caught.value).startswith("photo.png") and "\n" not in str(caught.value)


# -------------------------------------------------------------------------------------- orientation
_UPRIGHT = {  # EXIF orientation -> how numpy brings the stored image upright
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_exif_orientation_is_applied_and_the_header_agrees(tmp_path, kind, orientation):
    stored = gradient()
    options = (
        {"quality": 95, "subsampling": 0}
        if kind == "jpeg"
        else ({"lossless": True} if kind == "webp" else {})
    )
    data = encode(Image.fromarray(stored), kind, exif=exif(orientation), **options)
    upright = np.asarray(decode_image(data, "RGB", "x"))
    wanted = _UPRIGHT[orientation](stored)
    assert upright.shape == wanted.shape and np.abs(upright.astype(int) - wanted).max() <= 6
    assert header_of(tmp_path, data, f"x.{kind}") == ((wanted.shape[1], wanted.shape[0]), "RGB")


def test_damaged_exif_neither_warns_nor_turns():
    # five entries announced, one begun
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 5) + b"\x12\x01\x03"
    data = encode(Image.fromarray(gradient()), "jpeg", exif=block)
    assert decode_image(data, "RGB", "x").size == (24, 16)


# --------------------------------------------------------------------------------- depth and color
def test_16_bits_are_scaled():
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    data = encode(Image.fromarray(deep), "png")
    for mode in ("L", "RGB"):
        pixels = np.asarray(decode_image(data, mode, "x")).reshape(8, 8, -1)
        assert np.array_equal(pixels[..., 0], np.rint(deep / 257))
        assert pixels.max() == 255 and len(np.unique(pixels)) == 64


def test_16_bit_color_is_scaled(tmp_path):
    deep = np.stack([np.linspace(0, 65535, 64).reshape(8, 8)] * 3, -1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    pixels = np.asarray(decode_image(data, "RGB", "x"))
    assert np.abs(pixels[..., 1] - deep[..., 1] / 257).max() <= 1
    assert header_of(tmp_path, data) == ((8, 8), "RGB")


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_becomes_rgb(tmp_path, adobe):
    rgb = Image.fromarray(gradient())
    data = encode(rgb.convert("CMYK"), "jpeg", quality=95)
    if adobe:
        assert b"Adobe" in data  # as Photoshop does, with inverted values
    else:
        at = data.index(b"\xff\xee")
        data = data[:at] + data[at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0] :]
    assert header_of(tmp_path, data, "x.jpg") == ((24, 16), "CMYK")
    assert np.abs(np.asarray(decode_image(data, "RGB", "x")).astype(int) - gradient()).max() <= 8
    gray = np.asarray(rgb.convert("L")).astype(int)
    assert np.abs(np.asarray(decode_image(data, "L", "x")) - gray).max() <= 8


def test_palette_with_transparency_does_not_warn():
    image = Image.fromarray(gradient()).quantize(8)
    data = encode(image, "png", transparency=bytes([0, 128] + [255] * 6))
    assert np.array_equal(
        np.asarray(decode_image(data, "RGB", "x")), np.asarray(image.convert("RGB"))
    )


# ------------------------------------------------------------------------------------------ refused
@pytest.mark.parametrize("kind", ["png", "webp", "gif"])
def test_animated_images_are_refused(kind):
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (0, 100, 200)]
    refused(
        r"animated \(3 frames\)", encode(frames[0], kind, save_all=True, append_images=frames[1:])
    )


def test_the_main_image_of_a_multi_image_jpeg_is_taken():
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (200, 0)]
    data = encode(frames[0], "mpo", save_all=True, append_images=frames[1:])
    assert np.abs(np.asarray(decode_image(data, "RGB", "x")).astype(int) - 200).max() <= 2


def test_absurd_sizes_are_refused_without_a_warning():
    side = int(MAX_PIXELS**0.5) + 1
    png = bytearray(encode(Image.new("L", (4, 4))))
    png[16:24] = struct.pack(">II", side, side)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    jpeg = bytearray(encode(Image.new("L", (8, 8)), "jpeg"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", side, side)
    gif = bytearray(encode(Image.new("P", (8, 8)), "gif"))
    gif[6:10] = struct.pack("<HH", side, side)
    for data in (png, jpeg, gif):
        refused(f"claims {side}x{side} pixels", bytes(data))


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp"])
def test_every_cut_is_one_sentence(kind):
    noise = np.random.RandomState(0).randint(0, 256, (16, 16, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    assert parse_header(data).size == (16, 16)
    for length in (0, 2, 10, 20, 30, len(data) // 2):
        refused("not a readable image|cannot be decoded", data[:length])


# --------------------------------------------------------------------------------------------- zips
def zipped(path, name, data=b"x", kind=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/etc/x.png", "C:/x.png", "a\\..\\x.png", ".."]
)
def test_names_that_leave_the_zip_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="points outside the zip"):
        open_source(zipped(tmp_path / "a.zip", name))


def test_dots_inside_names_are_fine(tmp_path):
    names = ["a..b/x.png", "..x.png", "x...png"]
    for name in names:
        assert open_source(zipped(tmp_path / "a.zip", name)).names() == [name]


def test_zip_bombs_are_refused_when_opened(tmp_path):
    bomb = zipped(tmp_path / "a.zip", "x.png", bytes(70 * 2**20), zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 2**20
    with pytest.raises(UserError, match="x.png would unpack from .* as zip bombs do"):
        open_source(bomb)


def test_a_member_that_lies_about_its_size_is_not_unpacked(tmp_path):
    data = bytearray(
        zipped(tmp_path / "a.zip", "x.png", bytes(2**20), zipfile.ZIP_DEFLATED).read_bytes()
    )
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<I", 100)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        open_source(tmp_path / "a.zip").read("x.png")
    data[at + 20 : at + 24] = struct.pack("<I", 2**31)
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(UserError, match="claims more bytes than the zip has"):
        open_source(tmp_path / "b.zip")
