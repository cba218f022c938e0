import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from architectures import cpu, layers


def plain_convolution(images, kernel):
    return lax.conv_general_dilated(images, kernel, (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


@pytest.mark.parametrize(
    'image, kernel',
    [
        ((3, 32, 32, 1), (5, 5, 1, 6)),  # LeNet-5's C1
        ((2, 14, 14, 6), (5, 5, 6, 16)),  # its C3
        ((1, 9, 13, 3), (3, 4, 3, 2)),  # a prime number of rows, an oblong kernel
    ],
)
def test_toeplitz_convolution_is_convolution(image, kernel):
    keys = jax.random.split(jax.random.key(0), 3)
    x, k = jax.random.normal(keys[0], image), jax.random.normal(keys[1], kernel)
    y = plain_convolution(x, k)
    g = jax.random.normal(keys[2], y.shape)
    chex.assert_trees_all_close(cpu.toeplitz_convolution(x, k), y, rtol=1e-5, atol=1e-5)
    tuned = jax.vjp(cpu.toeplitz_convolution, x, k)[1](g)
    chex.assert_trees_all_close(tuned, jax.vjp(plain_convolution, x, k)[1](g), rtol=1e-4, atol=1e-4)


def test_convolution_of_the_whole_image_is_fully_connected():
    x, k = jax.random.normal(jax.random.key(0), (4, 5, 5, 16)), jax.random.normal(jax.random.key(1), (5, 5, 16, 120))
    y = layers.convolution(x, k, (1, 1), 'VALID')
    chex.assert_shape(y, (4, 1, 1, 120))
    chex.assert_trees_all_close(y, plain_convolution(x, k), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('options', [{'strides': (2, 2)}, {'padding': 'SAME'}, {'kernel_dilation': (2, 2)}])
def test_conv_agrees_with_flax_where_the_fast_form_does_not_apply(options):
    x = jax.random.normal(jax.random.key(0), (2, 12, 12, 4))
    ours, theirs = layers.Conv(8, (3, 3), **options), nn.Conv(8, (3, 3), **({'padding': 'VALID'} | options))
    variables = theirs.init(jax.random.key(1), x)
    chex.assert_trees_all_close(ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-5, atol=1e-6)


def test_max_pool_gradient_goes_to_the_first_of_equals():
    x = jnp.round(jax.random.normal(jax.random.key(0), (2, 8, 6, 3)))  # whole numbers: ties abound
    g = jax.random.normal(jax.random.key(1), (2, 4, 3, 3))

    def xla(x):
        return nn.max_pool(x, (2, 2), (2, 2))

    chex.assert_trees_all_equal(layers.max_pool(x, 2, 2), xla(x))
    chex.assert_trees_all_equal(
        jax.vjp(lambda x: cpu.max_pool(x, 2, 2, ((0, 0), (0, 0))), x)[1](g), jax.vjp(xla, x)[1](g)
    )


def test_sum_pool_adds_the_four():
    x = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    expected = x.reshape(2, 2, 2, 3, 2, 3).sum((2, 4))
    chex.assert_trees_all_equal(np.asarray(layers.sum_pool_2x2(x)), expected)


def test_scaled_tanh_passes_through_one():
    # LeCun et al. 1998, appendix A: f(1) = 1, f(-1) = -1, and the second derivative is largest there.
    assert float(layers.scaled_tanh(jnp.float32(1))) == pytest.approx(1, abs=1e-4)
    assert float(layers.scaled_tanh(jnp.float32(-1))) == pytest.approx(-1, abs=1e-4)
    x = jnp.linspace(0, 3, 301)
    second = jax.vmap(jax.grad(jax.grad(layers.scaled_tanh)))(x)
    assert float(x[jnp.argmax(jnp.abs(second))]) == pytest.approx(1, abs=0.02)


def test_uniform_fan_in_fills_its_range():
    w = layers.uniform_fan_in(2.4)(jax.random.key(0), (5, 5, 6, 16))
    assert 0.98 < float(jnp.max(jnp.abs(w))) / (2.4 / 150) <= 1
