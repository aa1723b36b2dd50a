import numpy as np
import pytest

from thaw.data.batch.samplers import LengthGroupedBatches

LENGTHS = np.random.default_rng(0).integers(3, 60, size=1003)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_text_comes_once_an_epoch_on_any_number_of_ranks(world_size, shuffle):
    ranks = [
        list(LengthGroupedBatches(LENGTHS, 16, shuffle=shuffle, rank=r, world_size=world_size))
        for r in range(world_size)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    assert all(batch for batches in ranks for batch in batches)
    texts = sorted(i for batches in ranks for batch in batches for i in batch)
    assert texts == list(range(len(LENGTHS)))


def test_the_length_says_how_many_batches_come():
    batches = LengthGroupedBatches(LENGTHS, 16)
    assert len(batches) == len(list(batches)) == 63


def test_the_order_follows_from_seed_and_epoch():
    one, two = (LengthGroupedBatches(LENGTHS, 16, seed=1) for _ in range(2))
    first = list(one)
    assert first == list(two)
    one.set_epoch(1)
    assert list(one) != first
    assert list(LengthGroupedBatches(LENGTHS, 16, seed=2)) != first


def test_a_stopped_epoch_goes_on_with_the_batch_after_the_last():
    whole = list(LengthGroupedBatches(LENGTHS, 16, seed=3))
    rest = LengthGroupedBatches(LENGTHS, 16, seed=3)
    rest.start = 20
    assert list(rest) == whole[20:]
    assert list(rest) == whole  # the next epoch is whole again


def test_batches_hold_texts_of_similar_length():
    def padded(batches):
        return sum(LENGTHS[b].max() * len(b) for b in batches) / LENGTHS.sum()

    order = np.random.default_rng(1).permutation(len(LENGTHS))
    random_batches = [order[i : i + 16] for i in range(0, len(order), 16)]
    assert padded(random_batches) > 1.6
    assert padded(list(LengthGroupedBatches(LENGTHS, 16))) < 1.06


def test_batches_of_an_epoch_are_not_sorted_by_length():
    means = [LENGTHS[b].mean() for b in LengthGroupedBatches(LENGTHS, 16)]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.4


def test_ranks_share_each_batch_evenly():
    pairs = zip(
        *(LengthGroupedBatches(LENGTHS, 16, rank=r, world_size=2) for r in range(2)), strict=True
    )
    assert all(abs(len(a) - len(b)) <= 1 for a, b in pairs)
