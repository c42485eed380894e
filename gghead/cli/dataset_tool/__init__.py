"""``dataset_tool.py``: one command with a module per task, which is imported when it is called."""

from gghead.torch_utils.cli import lazy_group

main = lazy_group(
    "Make, convert, check and cut training data.",
    {
        "photos": "gghead.cli.dataset_tool.photos",
        "convert": "gghead.cli.dataset_tool.convert",
        "check": "gghead.cli.dataset_tool.check",
        "shard": "gghead.cli.dataset_tool.shard",
    },
)
