"""``calc_metrics.py``: one door to all that is measured on trained networks; the task is imported
when it is called."""

from gghead.torch_utils.cli import lazy_group

main = lazy_group(
    "Measure a trained network. Without a task: distances between a generator's pictures and a data"
    " set.\n\npython scripts/calc_metrics.py --network=RUN --metrics=frd2k,swd",
    {
        "network": "gghead.training.cli.score_gan",
        "avatar": "gghead.training.cli.score_avatar",
        "encoder": "gghead.training.cli.score_encoder",
        "expression": "gghead.training.cli.score_expression",
        "prior": "gghead.training.cli.score_prior",
    },
    default="network",
)
