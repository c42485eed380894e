"""``gghead data``: a module per task, which is imported when it is called."""

from gghead.torch_utils.cli_groups import LazyGroup

main = LazyGroup(
    {
        "photos": ("gghead.cli.dataset_tool.photos", "A folder of photos to a training zip"),
        "check": ("gghead.cli.dataset_tool.check", "What is wrong with a data set, and why"),
        "convert": ("gghead.cli.dataset_tool.convert", "Captures and sequences of other projects"),
        "shard": ("gghead.cli.dataset_tool.shard", "One large data set into many files"),
        "synthetic": ("gghead.cli.synthetic_heads", "Images of synthetic heads with cameras"),
        "sequence": ("gghead.cli.synthetic_sequence", "A tracked sequence of a synthetic person"),
    },
    help="Make, convert, check and cut training data.",
)
