"""``gghead edit``: edits of heads, which are imported when they are called."""

from gghead.torch_utils.cli_groups import LazyGroup

main = LazyGroup(
    {
        "interpolate": ("gghead.cli.edit.interpolate", "The way from one head to the next"),
        "mix": ("gghead.cli.edit.exchange:mix", "Some layers' styles from other heads"),
        "region": ("gghead.cli.edit.exchange:region", "A part of the face from other heads"),
        "pca": ("gghead.cli.edit.directions:pca", "Find the principal directions of heads"),
        "move": ("gghead.cli.edit.directions:move", "Move heads along principal directions"),
    },
    help=(
        "Edit heads: seeds (--heads=3,7) and latent files"
        " (--heads=out/me/latent-z.safetensors) alike."
    ),
)
