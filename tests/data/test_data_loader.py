"""The order of training images and the batches made of it: deterministic, restartable, split over
processes."""

import threading

import pytest
import torch

from gghead.data.loader import BatchLoader
from gghead.data.sampler import EpochSampler
from gghead.torch_utils.errors import UserError


class Numbers:
    """A stand-in for a data set whose items carry their index."""

    def __init__(self, size, broken=()):
        self.size = size
        self.resolution = 2
        self.broken = broken

    def __len__(self):
        return self.size

    def get(self, index):
        if index in self.broken:
            raise UserError(f"item {index} is broken.")
        value = torch.full((3, 2, 2), index, dtype=torch.uint8)
        return value, value[:1], torch.full((25,), float(index))


def order(batch):
    return batch["label"][:, 0].int().tolist()


def test_every_epoch_shows_every_image_once_in_another_order():
    sampler = EpochSampler(7, seed=3)
    epochs = [sampler.indices(7 * epoch, 7) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert EpochSampler(7, seed=4).indices(0, 7) != epochs[0]


def test_order_is_a_function_of_the_position():
    everything = EpochSampler(5, seed=0).indices(0, 40)
    assert EpochSampler(5, seed=0).indices(13, 20) == everything[13:33]
    shares = [EpochSampler(5, seed=0).indices(6, 4, rank, 3) for rank in range(3)]
    assert [shares[i % 3][i // 3] for i in range(12)] == everything[6:18]
    with pytest.raises(UserError, match="without images"):
        EpochSampler(0, seed=0)


@pytest.mark.parametrize("workers", [1, 3, None])
def test_batches_restart_at_any_position(workers):
    with BatchLoader(Numbers(11), batch=4, seed=5, workers=workers) as loader:
        batches = [next(loader) for _ in range(6)]
        assert loader.position == 24
    assert batches[0]["image"].shape == (4, 3, 2, 2) and batches[0]["alpha"].shape == (4, 1, 2, 2)
    assert [index for batch in batches for index in order(batch)] == EpochSampler(11, 5).indices(
        0, 24
    )
    with BatchLoader(
        Numbers(11), batch=4, seed=5, start=12, workers=workers, prefetch=0
    ) as resumed:
        assert [order(next(resumed)) for _ in range(3)] == [order(batch) for batch in batches[3:]]


def test_processes_share_one_sequence():
    with BatchLoader(Numbers(11), batch=6, seed=1) as single:
        wanted = order(next(single))
    parts = []
    for rank in range(2):
        with BatchLoader(Numbers(11), batch=3, seed=1, rank=rank, world=2) as loader:
            parts.append(order(next(loader)))
            assert loader.position == 6
    assert [parts[i % 2][i // 2] for i in range(6)] == wanted


def test_errors_arrive_and_threads_end():
    before = threading.active_count()
    loader = BatchLoader(Numbers(4, broken=(2,)), batch=4, seed=0)
    with pytest.raises(UserError, match="item 2 is broken"):
        next(loader)
    loader.close()
    loader.close()
    with pytest.raises(RuntimeError, match="closed"):
        next(loader)
    assert threading.active_count() == before
    with pytest.raises(ValueError, match="Impossible loader"):
        BatchLoader(Numbers(4), batch=0, seed=0)
