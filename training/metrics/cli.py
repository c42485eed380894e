"""``calc_metrics.py``: one door to all that is measured on trained networks; the task is imported when it is called."""

from gghead.torch_utils.cli import lazy_group

main = lazy_group(
    "Measure a trained network. Without a task: distances between a generator's pictures and a data set.\n\n"
    "python scripts/calc_metrics.py --network=RUN --metrics=frd2k,swd",
    {
        "network": "gghead.training.metrics.network_cli",
        "avatar": "gghead.training.avatar.score_cli",
        "encoder": "gghead.training.encoder.score_cli",
        "expression": "gghead.training.expression.score_cli",
        "prior": "gghead.training.prior.score_cli",
    },
    default="network",
)
