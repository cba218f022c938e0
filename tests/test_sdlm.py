import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import architectures
from architectures import lenet
from runtime.errors import UserError
from training import losses, sdlm


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    'activation', [jnp.tanh, nn.sigmoid, nn.relu, nn.softplus, nn.swish, lambda x: 1.7159 * jnp.tanh(2 / 3 * x)]
)
def test_curvature_is_the_papers_recursion(activation):
    """Appendix C, unit by unit, for a network of two layers with the squared error E = sum_j (y_j - t_j)^2."""
    u, v, x, t = normal(0, 7, 5), normal(1, 5, 4), normal(2, 3, 7), normal(3, 3, 4)
    slope = jax.vmap(jax.vmap(jax.grad(activation)))

    a = x @ u
    hidden = np.asarray(activation(a))
    output_slope = np.asarray(slope(hidden @ v))
    h_output = 2 * output_slope**2  # d2E/da_k^2 = f'(a_k)^2 d2E/dy_k^2
    h_hidden = np.asarray(slope(a)) ** 2 * (h_output @ (v**2).T)
    expected = {'u': np.zeros_like(u), 'v': np.zeros_like(v)}
    for sample in range(3):
        for j in range(5):
            for i in range(7):
                expected['u'][i, j] += h_hidden[sample, j] * x[sample, i] ** 2 / 3
            for k in range(4):
                expected['v'][j, k] += h_output[sample, k] * hidden[sample, j] ** 2 / 3

    def network(params, x):
        return activation(activation(x @ params['u']) @ params['v'])

    squared_error = lambda y, t: jnp.sum((y - t) ** 2)  # noqa: E731
    h = jax.jit(functools.partial(sdlm.curvature, network, squared_error))({'u': u, 'v': v}, x, t)
    chex.assert_trees_all_close(h, expected, rtol=1e-4)


def test_a_shared_weight_sums_over_its_positions():
    """A convolution of one layer: the sum over positions of squared inputs, not the square of their sum."""
    x, kernel = normal(0, 2, 6, 6, 1), normal(1, 3, 3, 1, 2)
    t = normal(2, 2, 4, 4, 2).reshape(2, -1)

    def network(kernel, x):
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
        return y.reshape(len(x), -1)

    windows = np.lib.stride_tricks.sliding_window_view(x[..., 0], (3, 3), (1, 2))  # [2, 4, 4, 3, 3]
    expected = np.broadcast_to((2 * (windows**2).sum((0, 1, 2)) / 2)[:, :, None, None], kernel.shape)
    h = sdlm.curvature(network, lambda y, t: jnp.sum((y - t) ** 2), kernel, x, t)
    chex.assert_trees_all_close(h, expected, rtol=1e-5)


def test_curvature_does_not_depend_on_how_a_layer_is_run():
    model = architectures.create('lenet5_1998')
    x = normal(0, 2, 32, 32, 1)
    params = jax.jit(model.init)(jax.random.key(0), x)['params']
    params = jax.tree.map(lambda w: 5 * w, params)  # out of the linear range of tanh

    def naive(params, x):
        """The same network from plain convolutions and a reshaped sum, the table as a mask."""
        f = architectures.layers.scaled_tanh
        conv = lambda x, k: jax.lax.conv_general_dilated(  # noqa: E731
            x, k, (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )
        pool = lambda x, p: (  # noqa: E731
            x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2, x.shape[3]).sum((2, 4))
            * p['coefficient'][None, None, None]
            + p['bias'][None, None, None]
        )
        x = f(pool(f(conv(x, params['C1']['kernel']) + params['C1']['bias'][None, None, None]), params['S2']))
        rows = np.concatenate(lenet.C3_CONNECTIONS)
        columns = np.repeat(np.arange(16), [len(r) for r in lenet.C3_CONNECTIONS])
        place = np.zeros((60, 6 * 16), np.float32)
        place[np.arange(60), rows * 16 + columns] = 1
        kernel = (params['C3']['kernel'].reshape(25, 60) @ place).reshape(5, 5, 6, 16)
        x = f(pool(f(conv(x, kernel) + params['C3']['bias'][None, None, None]), params['S4']))
        x = f(conv(x, params['C5']['kernel']) + params['C5']['bias'][None, None, None]).reshape(len(x), 120)
        return f(x @ params['F6']['kernel'] + params['F6']['bias'][None])

    def ours(params, x):
        return model.apply({'params': params}, x, method='features')

    labels = np.array([3, 8])

    def rest(features, label):
        return jnp.sum((features - jnp.asarray(lenet.BITMAPS, jnp.float32)[label]) ** 2)

    ours, theirs = (jax.jit(functools.partial(sdlm.curvature, f, rest))(params, x, labels) for f in (ours, naive))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-3)


def test_curvature_of_a_max_pool_does_not_depend_on_the_platform():
    """The plain forms are those of a GPU or TPU: there the gradient of a max pool is one operation of XLA's."""
    x, params = normal(1, 3, 8, 8, 2), {'kernel': normal(2, 3, 3, 2, 4)}

    def features(params, x):
        y = jax.lax.conv_general_dilated(
            x, params['kernel'], (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )
        return architectures.layers.max_pool(y, 2, 2).reshape(len(x), -1)

    def rest(features, label):
        return jnp.sum((features - label) ** 2)

    curvature = functools.partial(sdlm.curvature, features, rest, params, x, np.arange(3.0))
    tuned = curvature()
    with architectures.layers.plain_forms():
        plain = curvature()
    chex.assert_trees_all_close(plain, tuned, rtol=1e-5)
    assert float(tuned['kernel'].min()) > 0


def test_second_derivative_at_the_rbf_output_is_two():
    """Of the right unit's penalty (protocols of the paper: d2E/dx^2 = 2)."""
    model = architectures.create('lenet5_1998')
    loss = losses.create('penalty')

    def rest(x):
        return loss(model.apply({}, x[None], method='classify')[0], 4)

    chex.assert_trees_all_close(sdlm.diagonal_hessian(rest, jnp.asarray(normal(0, 84))), 2 * jnp.ones(84), rtol=1e-5)


def test_diagonal_of_softmax_is_p_one_minus_p():
    x = jnp.asarray(normal(0, 10))
    p = jax.nn.softmax(x)
    chex.assert_trees_all_close(
        sdlm.diagonal_hessian(lambda x: losses.cross_entropy(x, 2), x), p * (1 - p), rtol=1e-4, atol=1e-6
    )


def test_an_equation_that_is_not_linear_is_refused():
    with pytest.raises(UserError, match=r'^curvature \(.*\): no rule for the operation cumsum in '):
        sdlm.squared_backward(jnp.cumsum, jnp.ones(3), jnp.ones(3))


def test_the_update_divides_by_mu_plus_h():
    params = {'w': jnp.array([1.0, 2.0])}
    optimizer = optax.chain(sdlm.scale_by_sdlm(0.02), optax.scale_by_learning_rate(5e-4))
    state = optax.tree.set(optimizer.init(params), curvature={'w': jnp.array([0.0, 6.98])})
    updates, _ = optimizer.update({'w': jnp.ones(2)}, state, params)
    # The effective rates of a first pass reach from 7e-5 upwards (section III.B): 0.0005 / (0.02 + 6.98) is its bottom.
    chex.assert_trees_all_close(updates['w'], -jnp.array([0.025, 5e-4 / 7]), rtol=1e-5)
