"""Numbers that a change would make every published run another run by, beyond those of seed 0 and epoch 0."""

import jax
import numpy as np

from input_pipeline import loader, pixels
from input_pipeline.crops import Draws


def test_the_order_of_any_seed_and_epoch_stays_as_it_is():
    found, epochs = loader.example_order(2_000, 2_008, 1_000, seed=3)
    assert epochs.tolist() == [2] * 8
    assert found.tolist() == [651, 239, 660, 808, 284, 713, 793, 822]
    # Of NumPy's Philox, whose key is (seed, epoch): the places of its numbers, smallest first.
    assert found.tolist() == np.argsort(np.random.Philox(key=[3, 2]).random_raw(1_000))[:8].tolist()


def test_the_draws_of_any_seed_epoch_and_example_stay_as_they_are():
    draws = Draws(3, 2, 41)
    assert [draws.integer(0, 999) for _ in range(8)] == [872, 675, 62, 462, 588, 939, 931, 19]


def test_the_keys_of_any_seed_epoch_and_example_stay_as_they_are():
    keys = pixels.example_keys(3, 2, np.array([41], np.int32))
    assert jax.random.key_data(keys).tolist() == [[3527274476, 486558100]]
