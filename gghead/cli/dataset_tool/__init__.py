"""``dataset_tool.py``: one command with a module per task, which is imported when it is called."""

from torch_utils.cli import lazy_group

main = lazy_group("Make, convert and check training data.", {
    "check": "gghead.cli.dataset_tool.check",
    "shard": "gghead.cli.dataset_tool.shard",
})  # fmt: skip
