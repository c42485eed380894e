"""``edit.py``: one command with a module per edit, which is imported when it is called."""

from gghead.torch_utils.cli import lazy_group

main = lazy_group(
    "Edit heads: seeds (--heads=3,7) and latent files (--heads=out/me/latent-z.safetensors) alike.",
    {
        "interpolate": "gghead.cli.edit.interpolate",
        "mix": "gghead.cli.edit.mix",
        "region": "gghead.cli.edit.region",
        "pca": "gghead.cli.edit.pca",
        "move": "gghead.cli.edit.move",
    },
)
