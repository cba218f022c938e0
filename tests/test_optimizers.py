"""Each optimizer against the lines of its paper in NumPy, by value; filters against ZFNet's section 3.1."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import architectures
from configs import base, zfnet
from runtime.errors import UserError
from training import optimizers
from training.run import Run, check

RNG = np.random.default_rng(0)
START, GRADIENTS = RNG.normal(size=6), 3 * RNG.normal(size=(12, 6)) * np.array([1, 1, 1, 1, 1e-3, 0])
RATES = [0.1] * 5 + [0.02] * 7


def nesterov(w, momentum=0.9, inside=False):
    v = np.zeros_like(w)
    for g, e in zip(GRADIENTS, RATES, strict=True):
        v = momentum * v + (e * g if inside else g)
        w = w - (e * g + momentum * v if inside else e * (g + momentum * v))
    return w


def adagrad(w, initial=0.1, epsilon=1e-7):
    s = np.full_like(w, initial)
    for g, e in zip(GRADIENTS, RATES, strict=True):
        s = s + g**2
        w = w - e * g / np.sqrt(s + epsilon)
    return w


def rmsprop(w, decay=0.9, momentum=0.0, epsilon=1e-8, initial=0.0, inside=False):
    s, v = np.full_like(w, initial), np.zeros_like(w)
    for g, e in zip(GRADIENTS, RATES, strict=True):
        s = decay * s + (1 - decay) * g**2
        u = g / np.sqrt(s + epsilon)
        v = momentum * v + (e * u if inside else u)
        w = w - (v if inside else e * v)
    return w


def adam(w, beta1=0.9, beta2=0.999, epsilon=1e-8):
    m, s = np.zeros_like(w), np.zeros_like(w)
    for t, (g, e) in enumerate(zip(GRADIENTS, RATES, strict=True), start=1):
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * g**2
        w = w - e * (m / (1 - beta1**t)) / (np.sqrt(s / (1 - beta2**t)) + epsilon)
    return w


RULES = {'nesterov': nesterov, 'adagrad': adagrad, 'rmsprop': rmsprop, 'adam': adam}
INCEPTION = {'decay': 0.9, 'momentum': 0.9, 'epsilon': 1.0, 'initial': 1.0}
CASES = [
    ('nesterov', False, {}),
    ('nesterov', True, {'momentum': 0.5}),
    ('adagrad', False, {}),
    ('adagrad', False, {'initial': 0.0, 'epsilon': 0.01}),
    ('rmsprop', False, {}),
    ('rmsprop', False, {'decay': 0.5, 'epsilon': 0.1, 'momentum': 0.7}),
    ('rmsprop', True, INCEPTION),
    ('adam', False, {}),
    ('adam', False, {'beta1': 0.5, 'beta2': 0.8, 'epsilon': 0.1}),
]


def follow(optimizer, params, gradients, rates):
    """The parameters after these gradients, at these rates."""
    update, state = jax.jit(optimizer.update), optimizer.init(params)
    for gradient, rate in zip(gradients, rates, strict=True):
        updates, state = update(gradient, state, params, rate=rate)
        params = optax.apply_updates(params, updates)
    return params


def ours(name, inside, options):
    if name == 'nesterov':
        optimizer = optimizers.create(name, rate_inside=inside, **{'momentum': 0.9, **options})
    else:
        optimizer = optimizers.create(name, rate_inside=inside, rule=options)
    return follow(optimizer, jnp.asarray(START, jnp.float32), jnp.asarray(GRADIENTS, jnp.float32), RATES)


@pytest.mark.parametrize('name, inside, options', CASES)
def test_an_optimizer_is_its_papers_lines(name, inside, options):
    expected = RULES[name](START, **options, **({'inside': inside} if name in ('nesterov', 'rmsprop') else {}))
    np.testing.assert_allclose(ours(name, inside, options), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', ['adagrad', 'rmsprop', 'adam'])
def test_no_rate_is_in_what_a_gradient_is_divided_by(name):
    np.testing.assert_allclose(ours(name, True, {}), RULES[name](START), rtol=1e-5, atol=1e-5)


def test_the_rules_differ():
    """All cases have different results, so a test would notice if two were exchanged."""
    ends = [np.asarray(ours(*case)) for case in CASES]
    for number, end in enumerate(ends):
        assert all(np.abs(end - other).max() > 1e-3 for other in ends[:number])


def test_a_config_says_the_options():
    config = base.get_config()
    for name, rule in RULES.items():
        if name != 'nesterov':  # its only option is the momentum
            names, defaults = rule.__code__.co_varnames, rule.__defaults__
            own = dict(zip(names[1 : 1 + len(defaults)], defaults, strict=True))
            own.pop('inside', None)
            assert config[name].to_dict() == own


@pytest.mark.parametrize(
    'name, key, value, says',
    [
        ('adam', 'beta2', 1.0, 'adam.beta2 must be at least 0 and below 1, not 1.0'),
        ('rmsprop', 'decay', -0.1, 'rmsprop.decay must be at least 0 and below 1'),
        ('rmsprop', 'epsilon', 0.0, 'rmsprop.epsilon must be above 0'),
        ('adagrad', 'initial', -1.0, 'adagrad.initial must be at least 0'),
    ],
)
def test_an_options_range(name, key, value, says):
    config = base.get_config()
    config[name][key] = value
    with pytest.raises(UserError, match=says):
        check(config)


# Filters


def clipped(kernel):
    """Zeiler and Fergus 2013, section 3.1: each filter whose RMS exceeds 0.1, back to it; filter by filter."""
    after = np.array(kernel, np.float64)
    for feature in range(kernel.shape[-1]):
        rms = np.sqrt(np.mean(after[..., feature] ** 2))
        if rms > 0.1:
            after[..., feature] *= 0.1 / rms
    return after


CONVOLUTIONS = ('layer1_conv', 'layer2_conv', 'layer3', 'layer4', 'layer5_conv')


def test_the_filters_of_zfnets_convolutions_are_clipped_and_nothing_else():
    """A step of the recipe on gradients of 0: layer 6 reads 6x6 cells, its kernel has four axes, and no filters."""
    model = architectures.create('zfnet', num_classes=3, widths=(4, 4, 4))
    found = architectures.convolutions(model, (224, 224, 3))
    assert found == {(name,) for name in CONVOLUTIONS}
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), jnp.zeros((1, 224, 224, 3)))['params']
    assert shapes['layer6']['kernel'].shape == (6, 6, 4, 4096)
    few = jax.tree.map(lambda leaf: (*leaf.shape[:-1], min(leaf.shape[-1], 8)), shapes)  # as many features do
    params = jax.tree.map(
        lambda shape: RNG.normal(size=shape).astype(np.float32) * np.linspace(0.05, 0.5, shape[-1], dtype=np.float32),
        few,
        is_leaf=lambda x: isinstance(x, tuple),
    )
    optimizer = optimizers.create(
        'momentum', momentum=0.9, filter_rms=zfnet.get_config().filter_rms, convolutions=found
    )
    after = follow(optimizer, params, [jax.tree.map(np.zeros_like, params)], [0.01])
    for name, layer in params.items():
        expected = clipped(layer['kernel']) if name in CONVOLUTIONS else layer['kernel']
        np.testing.assert_allclose(after[name]['kernel'], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(after[name]['bias'], layer['bias'])
        assert (name in CONVOLUTIONS) == (not np.array_equal(expected, layer['kernel']))


def test_a_run_clips_by_the_layers_of_its_network():
    config = zfnet.get_config()
    config.architecture_options = {'widths': (4, 4, 4), 'window': 2}
    config.schedule, config.num_classes = 'steps', 10
    config.dataset, config.test_split, config.batch_size = 'synthetic', 'test', 8
    config.image_size, config.normalize = 96, 'range'
    config.crop.short_side = config.test_crop.short_side = (96, 96)
    run = Run(config)
    shapes = jax.eval_shape(run.initial_state).params
    assert shapes['layer6']['kernel'].ndim == 4
    params = jax.tree.map(lambda leaf: jnp.full((*leaf.shape[:-1], 2), 0.2), shapes)  # two features do
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = run.optimizer.update(zeros, run.optimizer.init(params), params, rate=0.01)
    moved = {name for name, layer in updates.items() if np.any(np.abs(layer['kernel']) > 0.05)}
    assert moved == set(CONVOLUTIONS)


def test_a_filter_of_scanned_blocks_is_of_one_block():
    """Equal blocks as one scan: their kernels are stacked along a first axis."""
    kernel = RNG.normal(size=(2, 3, 3, 4, 5)).astype(np.float32) * np.float32([[0.05], [0.5]])[:, None, None, None]
    optimizer = optimizers.create('sgd', filter_rms=0.1, convolutions={('blocks', 'conv1')})
    params = {'blocks': {'conv1': {'kernel': jnp.asarray(kernel)}}}
    after = follow(optimizer, params, [jax.tree.map(jnp.zeros_like, params)], [0.01])
    expected = np.stack([clipped(block) for block in kernel])
    np.testing.assert_allclose(after['blocks']['conv1']['kernel'], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    'name, size, options, paths',
    [
        ('lenet5', 32, {}, {('conv1',), ('conv2',)}),
        ('alexnet_owt', 227, {}, {(f'conv{number}',) for number in range(1, 6)}),
        ('overfeat_fast', 231, {}, {(f'layer{number}_conv',) for number in (1, 2, 5)} | {('layer3',), ('layer4',)}),
        ('resnet20', 32, {'scan': True}, None),
    ],
)
def test_the_convolutions_of_a_network(name, size, options, paths):
    model, channels = architectures.create(name, **options), 1 if name == 'lenet5' else 3
    found = architectures.convolutions(model, (size, size, channels))
    if paths is not None:
        assert found == paths
    params = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), jnp.zeros((1, size, size, channels)))['params']
    for path in found:
        leaf = params
        for key in path:
            leaf = leaf[key]
        assert leaf['kernel'].ndim >= 4
