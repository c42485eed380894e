"""The formats of images whose reading is timed, by name: the arguments of Pillow's ``save``."""

FORMATS: dict[str, dict] = {
    "png level 0": {"format": "png", "compress_level": 0},
    "png level 1": {"format": "png", "compress_level": 1},
    "png level 6": {"format": "png", "compress_level": 6},
    "jpeg q95": {"format": "jpeg", "quality": 95},
    "webp q95": {"format": "webp", "quality": 95},
    "webp lossless": {"format": "webp", "lossless": True},
}
