import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

import architectures
from architectures import lenet
from runtime.errors import UserError

IMAGES = jax.random.normal(jax.random.key(7), (3, 32, 32, 1))


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


def parameters(name, **options):
    model = architectures.create(name, **options)
    return jax.eval_shape(model.init, jax.random.key(0), IMAGES)['params']


def test_lenet5_has_61706_parameters():
    sizes = {name: count(layer) for name, layer in parameters('lenet5').items()}
    assert sizes == {'conv1': 156, 'conv2': 2416, 'fc1': 48120, 'fc2': 10164, 'fc3': 850}
    assert sum(sizes.values()) == 61_706


def test_lenet5_1998_has_60000_trainable_parameters():
    sizes = {name: count(layer) for name, layer in parameters('lenet5_1998').items()}
    assert sizes == {'C1': 156, 'S2': 12, 'C3': 1516, 'S4': 32, 'C5': 48120, 'F6': 10164}
    assert sum(sizes.values()) == 60_000


def test_the_lectures_readings_of_the_original():
    assert count(parameters('lenet5_1998', c3='full')['C3']) == 2416
    assert {'S2', 'S4'}.isdisjoint(parameters('lenet5_1998', pool='max'))
    assert count(parameters('lenet5_1998', output='dense')['dense']) == 850
    lecture = parameters('lenet5_1998', pool='max', c3='full', output='dense', activation='tanh')
    assert count(lecture) == 61_706


@pytest.mark.parametrize('name', ['lenet5', 'lenet5_1998'])
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_logits_and_gradients(name, dtype):
    model = architectures.create(name, dtype=dtype)
    variables = jax.jit(model.init)(jax.random.key(0), IMAGES)
    logits = jax.jit(model.apply)(variables, IMAGES)
    chex.assert_shape(logits, (3, 10))
    assert logits.dtype == dtype
    chex.assert_tree_all_finite(logits)
    loss = lambda v: jnp.sum(model.apply(v, IMAGES, train=True)[:, 3].astype(jnp.float32))  # noqa: E731
    gradients = jax.jit(jax.grad(loss))(variables)
    dead = [path for path, g in jax.tree_util.tree_leaves_with_path(gradients) if not np.any(np.asarray(g))]
    # lenet5: the one logit asked for does not depend on the other rows of fc3, but each leaf gets some gradient
    assert not dead


def test_feature_maps_of_the_paper():
    model = architectures.create('lenet5_1998')
    variables = model.init(jax.random.key(0), IMAGES)
    shapes = {name: x.shape[1:] for name, x in architectures.activations(model, variables, IMAGES).items()}
    assert shapes == {
        'C1': (28, 28, 6), 'S2': (14, 14, 6), 'C3': (10, 10, 16), 'S4': (5, 5, 16), 'C5': (1, 1, 120),
        'F6': (1, 1, 84), 'output': (1, 1, 10),
    }  # fmt: skip


def test_connection_table():
    # Table I: 6 maps of three neighbors, 6 of four, 3 of four in two pairs, 1 of all six: 60 connections.
    assert [len(row) for row in lenet.C3_CONNECTIONS] == [3] * 6 + [4] * 9 + [6]
    x = jax.random.normal(jax.random.key(0), (2, 14, 14, 6))
    layer = lenet.TableConv(lenet.C3_CONNECTIONS)
    variables = layer.init(jax.random.key(1), x)
    kernel, bias = variables['params']['kernel'], variables['params']['bias']
    chex.assert_shape(kernel, (5, 5, 60))
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(x), (5, 5), (1, 2))  # [2, 10, 10, 6, 5, 5]
    expected, first = [], 0
    for row in lenet.C3_CONNECTIONS:
        own = np.asarray(kernel)[:, :, first : first + len(row)]
        expected.append(np.einsum('bhwcij,ijc->bhw', windows[:, :, :, list(row)], own))
        first += len(row)
    expected = np.stack(expected, -1) + np.asarray(bias)
    chex.assert_trees_all_close(np.asarray(layer.apply(variables, x)), expected, rtol=1e-4, atol=1e-5)


def test_subsampling_sums_scales_and_shifts():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 6)).astype(np.float32)
    params = {'coefficient': np.arange(6.0, dtype=np.float32), 'bias': np.ones(6, np.float32)}
    y = lenet.Subsampling().apply({'params': params}, x)
    expected = x.reshape(2, 2, 2, 2, 2, 6).sum((2, 4)) * np.arange(6) + 1
    chex.assert_trees_all_close(np.asarray(y), expected.astype(np.float32), rtol=1e-5, atol=1e-5)


def test_rbf_units_are_squared_distances():
    features = np.random.default_rng(0).normal(size=(5, 84)).astype(np.float32)
    expected = cdist(features, lenet.BITMAPS, 'sqeuclidean').astype(np.float32)
    chex.assert_trees_all_close(np.asarray(lenet.rbf_penalties(features, lenet.BITMAPS.astype(np.float32))), expected)
    # The answer is the unit with the smallest penalty: a bitmap itself is its own class.
    logits = architectures.create('lenet5_1998').apply({}, lenet.BITMAPS.astype(np.float32), method='classify')
    assert np.argmax(logits, axis=-1).tolist() == list(range(10))


def test_bitmaps_are_ten_different_7x12_drawings():
    chex.assert_shape(lenet.BITMAPS, (10, 84))
    assert set(np.unique(lenet.BITMAPS)) == {-1.0, 1.0}
    distances = cdist(lenet.BITMAPS, lenet.BITMAPS, 'sqeuclidean') + 1000 * np.eye(10)
    assert distances.min() == 4 * 27  # pixels


def test_names_are_checked():
    with pytest.raises(UserError, match='did you mean lenet5'):
        architectures.create('lenet_5')
    with pytest.raises(UserError, match='did you mean activation'):
        architectures.create('lenet5', activtion='tanh')
    with pytest.raises(UserError, match='pool must be one of subsample, max'):
        parameters('lenet5_1998', pool='mean')
    with pytest.raises(UserError, match='RBF units for 10 digits, not 11'):
        parameters('lenet5_1998', num_classes=11)
    with pytest.raises(UserError, match='did you mean relu'):
        parameters('lenet5', activation='rellu')
