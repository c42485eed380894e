"""``calc_metrics.py``: one door to all that is measured on trained networks; the task is imported when it is called."""

from torch_utils.cli import lazy_group

main = lazy_group(
    "Measure a trained network. Without a task: distances between a generator's pictures and a data set.\n\n"
    "python scripts/calc_metrics.py --network=RUN --metrics=frd2k,swd",
    {
        "network": "training.metrics.network_cli",
        "avatar": "training.avatar.score_cli",
        "encoder": "training.encoder.score_cli",
        "expression": "training.expression.score_cli",
        "prior": "training.prior.score_cli",
    },
    default="network",
)
