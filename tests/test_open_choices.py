"""Choices that a paper leaves open: AlexNet's rates and factor from the author's program, missing initial weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import architectures
from configs import listing
from input_pipeline.pixels import Pixels
from training import schedules

MEAN = np.linspace(90, 130, 12 * 12 * 3, dtype=np.float32).reshape(12, 12, 3)


@pytest.mark.parametrize('name', ['alexnet', 'alexnet_owt'])
def test_the_rates_of_cuda_convnet2_fall_to_a_250th_in_three_equal_steps(name):
    """The options of its documentation: four quarters, each the one before divided by 250^(1/3)."""
    config = listing.load(f'{name}:cuda_convnet2')
    rate = schedules.create(
        config.schedule, config.learning_rates, config.learning_rate, config.decay_factor, config.decay_every,
        config.decay_power, config.num_epochs, num_examples=1280, batch_size=128,
    )  # fmt: skip
    found = [float(rate(step)) for step in (0, 224, 225, 449, 450, 674, 675, 899)]  # ten steps an epoch
    np.testing.assert_allclose(found, np.repeat(0.01 * 250.0 ** (-np.arange(4) / 3), 2), rtol=2e-5)
    assert config.num_epochs == 90


def pixels(name, train):
    """The images of the network for one photograph and its center crop, without randomness."""
    config = listing.load(name)
    config.colour.flip, config.colour.lighting = False, 'none'
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(1, 8, 8, 3)
    batch = {'image': image, 'offset': np.array([[2, 2]]), 'epoch': np.array([0]), 'index': np.array([0])}
    pixels = Pixels(config, {'mean_image': jnp.asarray(MEAN)}, 1)
    return np.asarray(
        jax.jit(pixels.train if train else pixels.test)({key: jnp.asarray(value) for key, value in batch.items()})
    ), image - MEAN[2:10, 2:10]


@pytest.mark.parametrize(
    'name, train, factor',
    [
        ('alexnet', True, 1 / 1.1),
        ('alexnet', False, 1),
        ('alexnet:unscaled', True, 1),
        ('alexnet:unscaled', False, 1),
        ('alexnet_owt:unscaled', True, 1),
    ],
)
def test_the_authors_factor_is_of_training_pixels_and_can_be_left_out(name, train, factor):
    found, expected = pixels(name, train)
    np.testing.assert_allclose(found, factor * expected, rtol=1e-5, atol=1e-4)


# Papers without initial weights: the initializer that we chose, and the recipe's sentence about it.
SILENT = {'googlenet': ('caffe_xavier', 'initial weights'), 'bn_inception': ('he_fan_in', 'are our choice')}


@pytest.mark.parametrize('name', SILENT)
def test_a_recipe_says_where_its_paper_is_silent_about_first_weights(name):
    chosen, says = SILENT[name]
    assert architectures.create(name).initializer == chosen
    assert 'initializer' not in listing.load(name).architecture_options
    assert says in ' '.join(listing.docstring(name).split())
