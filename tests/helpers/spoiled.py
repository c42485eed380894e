"""One update of any trainer with gradients that are no numbers."""

import torch

from gghead.training.run.health import BAD_UPDATES, broken_tensors


def check_one_bad_update(trainer, parameter, updates: int = 1) -> None:
    """Spoil ``parameter``'s gradient in one step of ``updates`` updates: it is counted, and the
    weights stay sound."""
    bad = trainer.stats.state_dict().get(BAD_UPDATES, [0, 0, 0])
    hook = parameter.register_hook(lambda gradient: gradient * float("nan"))
    trainer.step()
    hook.remove()
    count, total, _ = trainer.stats.state_dict()[BAD_UPDATES]
    assert (count - bad[0], total - bad[1]) == (updates, 1)
    assert torch.isfinite(parameter).all() and not broken_tensors(trainer.state_dict())
    assert trainer.health.after_step() is None
