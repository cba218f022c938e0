"""The networks: to the unit what the papers count, and what every family promises of its outputs and gradients."""

import contextlib
import functools
import math
import re
from types import MappingProxyType
from typing import NamedTuple

import architecture_facts as facts
import chex
import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import quarter, quickly
from jax.interpreters import partial_eval

import architectures
from architectures import layers, senet
from architectures.catalogue import NETWORKS
from runtime.errors import UserError

NAMES = architectures.names()
KEY = jax.random.key(0)
FULLY_CONNECTED = [name for name in NAMES if name.startswith(('lenet', 'alexnet', 'zfnet', 'overfeat', 'vgg', 'prelu'))]

# Small enough to compile and run in seconds, one a kind of block. The fully connected ones need their training size.
SMALL = {
    'lenet5': {'activation': 'prelu'},
    'lenet5_1998': {},
    'resnet20': {'depth': 8},
    'resnet50': {'depths': (1, 1), 'widths': (16, 32), 'preactivation': True},
    'se_resnext50_32x4d': {'depths': (1, 1), 'widths': (64, 128)},
    'wrn_40_4': {'depth': 10, 'widen': 1, 'dropout': 0.3},
    'densenet121': {'blocks': (1, 2), 'growth': 8},
    'densenet_bc_100_12': {'blocks': (1, 2), 'dropout': 0.2},
}
SMALL_IMAGE = {'resnet50': (64, 64, 3), 'se_resnext50_32x4d': (64, 64, 3), 'densenet121': (64, 64, 3)}


# Tools


class Trace(NamedTuple):
    """A pass through a network, as shapes."""

    logits: jax.ShapeDtypeStruct
    variables: dict
    activations: dict
    multiply_adds: int
    unused: set  # parameters, and running statistics, on which no logits depend


@functools.cache
def trace(name, image_shape=None, train=False, dense=False, heads=True, scan=False, **options):
    """One abstract pass, which makes the parameters in the order in which `init` does and computes nothing.

    It is of the plain form: that a scan has the same parameters is tested below.

    Multiply-adds are the size of each kernel times the places where it is applied. What is unused is what is left over
    when all is taken away that the logits do not need; in training, and with `heads`, the auxiliary ones too.
    """
    model = architectures.create(name, **options)
    multiply_adds, order = [], []

    def count(method, arguments, keywords, context):
        y = method(*arguments, **keywords)
        if context.method_name == '__call__' and context.module.has_variable('params', 'kernel'):
            multiply_adds.append(context.module.get_variable('params', 'kernel').size * math.prod(y.shape[:-1]))
        return y

    def forward(key, images):
        made = ['params', 'batch_stats', 'activations', 'auxiliary']
        rngs = {'params': key, 'dropout': key}
        logits, state = model.apply({}, images, train=train, dense=dense, mutable=made, rngs=rngs)
        order.extend(state['activations'])
        auxiliary = state.get('auxiliary', {}) if heads else {}
        return logits, auxiliary, {kind: state[kind] for kind in state if kind != 'auxiliary'}

    images = jax.ShapeDtypeStruct((1, *(image_shape or NETWORKS[name].input_shape)), jnp.float32)

    def make_jaxpr():
        with nn.intercept_methods(count), layers.plain_forms():
            return jax.make_jaxpr(forward, return_shape=True)(KEY, images)

    jaxpr, (logits, auxiliary, state) = quickly(make_jaxpr)
    activations = {layer: state['activations'][layer].shape[1:] for layer in order}
    variables = {kind: state[kind] for kind in ('params', 'batch_stats') if kind in state}

    wanted = len(jax.tree.leaves((logits, auxiliary)))
    outputs = jaxpr.jaxpr.outvars
    needed, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * wanted + [False] * (len(outputs) - wanted))
    read = {id(variable) for equation in needed.eqns for variable in equation.invars}
    made = dict(zip(paths(state), outputs[wanted:], strict=True))
    unused = {
        path for path, variable in made.items() if path.startswith(('params/', 'batch_')) and id(variable) not in read
    }
    return Trace(logits, variables, activations, sum(multiply_adds), unused)


def paths(tree):
    return ['/'.join(entry.key for entry in path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def counts(name, **options):
    """(parameters, running statistics, multiply-adds)."""
    traced = trace(name, **options)
    return size(traced.variables['params']), size(traced.variables.get('batch_stats', {})), traced.multiply_adds


_NOISE = np.random.default_rng(0).standard_normal(4_194_301, np.float32)  # a prime number: repeated, no rows are equal


def filled(name, image_shape=None, train=False, **options):
    """Variables without special values: none is 0 or 1, and kernels preserve the magnitude of their input."""
    rng = np.random.default_rng(1)
    center = {'scale': 1.0, 'var': 1.0, 'slope': 0.25, 'coefficient': 0.5}

    def fill(path, leaf):
        kind = path[-1].key
        noise = (
            np.roll(_NOISE, rng.integers(len(_NOISE)))[: leaf.size] if leaf.size > 1000 else rng.normal(size=leaf.size)
        )
        if kind == 'kernel':
            noise = noise * math.sqrt(2 / math.prod(leaf.shape[:-1]))
        else:
            noise = center.get(kind, 0.0) + 0.1 * np.clip(noise, -3, 3)
        return np.resize(noise.astype(np.float32), leaf.shape)

    return jax.tree_util.tree_map_with_path(fill, trace(name, image_shape, train, **options).variables)


def filled_small(name):
    return filled(name, SMALL_IMAGE.get(name), **SMALL[name])


def pixels(*shape):
    return np.random.default_rng(2).standard_normal(shape, np.float32)


def compiled(function):
    """`jax.jit`, as the networks are run but without LLVM's polish: most of the seconds that compiling takes."""
    return jax.jit(function, compiler_options={**layers.compiler_options(), 'xla_backend_optimization_level': 0})


class Step(NamedTuple):
    """What one pass of training gives."""

    loss: jax.Array
    logits: jax.Array
    batch_stats: dict
    gradients: dict


@functools.cache
def stepper(model):
    """The cross entropy of made-up labels, heads included, and its gradient."""

    def loss_of(params, batch_stats, images, key):
        logits, state = model.apply(
            {'params': params, 'batch_stats': batch_stats},
            images,
            train=True,
            mutable=['batch_stats', 'auxiliary'],
            rngs={'dropout': key},
        )
        answers = jax.nn.one_hot(jnp.arange(len(images)) % model.num_classes, model.num_classes)
        losses = [
            -jnp.mean(jnp.sum(jax.nn.log_softmax(out.astype(jnp.float32)) * answers, axis=-1))
            for out in (logits, *jax.tree.leaves(state.get('auxiliary', {})))
        ]
        return sum(losses), (logits, state.get('batch_stats', {}))

    return compiled(jax.value_and_grad(loss_of, has_aux=True))


def train_step(model, variables, images):
    given = variables['params'], variables.get('batch_stats', {}), images, KEY
    (loss, (logits, stats)), gradients = quickly(lambda: stepper(model)(*given))
    return Step(loss, logits, stats, gradients)


def named_leaves(tree):
    return dict(zip(paths(tree), map(np.asarray, jax.tree.leaves(tree)), strict=True))


def assert_close(ours, theirs, tolerance):
    """Trees agree: of each leaf, no difference is larger than `tolerance` times its largest value."""
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
    theirs = named_leaves(theirs)
    for name, leaf in named_leaves(ours).items():
        difference, largest = np.max(np.abs(leaf - theirs[name])), np.max(np.abs(theirs[name]))
        assert difference <= tolerance * largest, f'{name}: {difference} of {largest}'


# Counts and sizes


def deep(name):
    """Whether a network is a shorter one with more of the same blocks: the same code, and seconds to trace."""
    return any(f'net{depth}' in name for depth in (34, 44, 56, 101, 110, 1202, 152, 154, 161, 169, 201, 264))


DEEP_ARE_SLOW = [pytest.param(name, marks=pytest.mark.slow if deep(name) else ()) for name in NAMES]


@pytest.mark.parametrize('name', DEEP_ARE_SLOW)
def test_parameters_statistics_and_multiply_adds(name):
    entry = NETWORKS[name]
    assert counts(name) == (entry.parameters, entry.statistics, entry.multiply_adds)


@pytest.mark.parametrize('name', DEEP_ARE_SLOW)
def test_feature_maps(name):
    expected = facts.FEATURE_MAPS[name]
    unnamed = facts.UNNAMED.get(name, set())
    activations = trace(name).activations
    assert unnamed <= activations.keys()
    activations = {layer: shape for layer, shape in activations.items() if layer not in unnamed}
    assert activations == expected
    assert list(activations) == list(expected)  # in the order in which they are computed


@pytest.mark.parametrize('name', DEEP_ARE_SLOW)
def test_logits_depend_on_every_parameter_and_running_statistic(name):
    assert trace(name).unused == set()


@pytest.mark.parametrize('name', DEEP_ARE_SLOW)
def test_the_training_losses_depend_on_every_parameter_and_on_no_running_statistic(name):
    traced = trace(name, train=True)
    assert traced.unused == {f'batch_stats/{path}' for path in paths(traced.variables.get('batch_stats', {}))}


def test_googlenets_heads_get_gradients_only_from_their_own_losses():
    params = trace('googlenet', train=True).variables['params']
    heads = {f'params/{path}' for path in paths(params) if path.startswith('loss_')}
    assert len(heads) == 2 * 3 * 2  # two heads of three layers with a kernel and a bias
    assert trace('googlenet', train=True, heads=False).unused == heads


@pytest.mark.parametrize(
    'name, options, parameters, statistics, multiply_adds',
    [
        pytest.param(name, *rest, id=f'{name}-{rest[0]}', marks=pytest.mark.slow if deep(name) else ())
        for name, *rest in facts.VARIANTS
    ],
)
def test_other_readings(name, options, parameters, statistics, multiply_adds):
    assert counts(name, **options) == (parameters, statistics, multiply_adds)


def test_googlenet_with_its_heads():
    with_heads = trace('googlenet', train=True)
    assert size(with_heads.variables['params']) == facts.GOOGLENET_WITH_HEADS
    heads = {name: size(tree) for name, tree in with_heads.variables['params'].items() if name.startswith('loss_')}
    for stage, channels in (('4a', 512), ('4d', 528)):  # 1x1 to 128, 4x4x128 to 1024, to 1000
        expected = channels * 128 + 128 + 2048 * 1024 + 1024 + 1024 * 1000 + 1000
        assert sum(n for name, n in heads.items() if name.startswith(f'loss_{stage}')) == expected
    headless = trace('googlenet', train=True, auxiliary_heads=False)
    assert size(headless.variables['params']) == NETWORKS['googlenet'].parameters


def test_alexnet_in_one_tower_is_the_lectures_arithmetic():
    # [kernel, inputs, outputs, side of the output]
    convolutions = [(11, 3, 96, 55), (5, 96, 256, 27), (3, 256, 384, 13), (3, 384, 384, 13), (3, 384, 256, 13)]
    dense = [(6 * 6 * 256, 4096), (4096, 4096), (4096, 1000)]
    weights = [k * k * n * m for k, n, m, _ in convolutions] + [n * m for n, m in dense]
    biases = sum(m for *_, m, _ in convolutions) + sum(m for _, m in dense)
    products = sum(k * k * n * m * side**2 for k, n, m, side in convolutions) + sum(n * m for n, m in dense)
    lecture = {'groups': 1, 'hidden_bias': 0, 'pool_before_norm': True}
    assert sum(weights) + biases == 62_378_344
    assert counts('alexnet', **lecture) == (62_378_344, 0, products)


def test_alexnet_of_the_papers_224_pixels():
    as_printed = trace('alexnet', image_shape=(224, 224, 3), round_up=True)
    assert as_printed.activations == facts.FEATURE_MAPS['alexnet']
    assert as_printed.multiply_adds == NETWORKS['alexnet'].multiply_adds


@pytest.mark.parametrize(
    'name, size, options, layer, side',
    [
        ('alexnet', 67, {'window': 1}, 'pool5', 1),
        ('alexnet', 67, {'window': 1, 'extra_conv': True}, 'conv6', 1),
        ('alexnet_owt', 64, {'window': 1}, 'pool5', 1),
        ('zfnet', 64, {'window': 1}, 'layer5', 1),
        ('zfnet_wide', 64, {'window': 1}, 'layer5', 1),
        ('overfeat_fast', 71, {'window': 1}, 'layer5', 1),
        ('overfeat_accurate', 77, {'window': 1}, 'layer6', 1),
        ('vgg_a', 32, {'window': 1}, 'pool5', 1),
        ('vgg_e', 32, {'window': 1}, 'pool5', 1),
        ('prelu_net_a', 32, {'side': 2}, 'conv4_5', 2),
        ('prelu_net_c', 32, {'side': 2}, 'conv4_6', 2),
        ('googlenet', 80, {'auxiliary_window': 1}, 'inception_5b', 2),
    ],
)
def test_small_training_images(name, size, options, layer, side):
    traced = trace(name, (size, size, 3), train=True, num_classes=10, **options)
    assert traced.logits.shape == (1, 10)
    assert traced.activations[layer][:2] == (side, side)


def test_a_small_prelu_net_keeps_the_levels_of_the_pyramid_that_fit():
    traced = trace('prelu_net_a', (32, 32, 3), num_classes=10, side=2)
    assert traced.activations['spp'] == (1, 1, (2 * 2 + 1) * 512)


def test_alexnets_sixth_convolution_keeps_pool5s_shape_and_has_conv5s():
    traced, plain = trace('alexnet', extra_conv=True), trace('alexnet')
    assert traced.activations['conv6'] == traced.activations['pool5'] == (6, 6, 256)
    added = traced.variables['params']['conv6']
    assert added['kernel'].shape == (3, 3, 128, 256) and added['bias'].shape == (256,)
    assert size(traced.variables['params']) == size(plain.variables['params']) + 3 * 3 * 128 * 256 + 256
    (bias,) = drawn('alexnet', 'conv6/bias', extra_conv=True)
    assert np.all(bias == 1)


@pytest.mark.parametrize('depth', [20, 32, 44, 56, 110, pytest.param(1202, marks=pytest.mark.slow)])
def test_cifar_resnets_are_6n_plus_2_layers(depth):
    n = (depth - 2) // 6
    rows = [(3, 16, 32), *[(16, 16, 32)] * (2 * n)]  # inputs, outputs, side of the output
    rows += [(16, 32, 16), *[(32, 32, 16)] * (2 * n - 1), (32, 64, 8), *[(64, 64, 8)] * (2 * n - 1)]
    assert len(rows) + 1 == depth  # layers with weights, the last one fully connected
    parameters = sum(9 * inputs * outputs + 2 * outputs for inputs, outputs, _ in rows) + 64 * 10 + 10
    statistics = sum(2 * outputs for _, outputs, _ in rows)
    multiply_adds = sum(9 * inputs * outputs * side**2 for inputs, outputs, side in rows) + 64 * 10
    assert counts(f'resnet{depth}') == (parameters, statistics, multiply_adds)


# Gradients and batch statistics


def assert_every_parameter_learns(name, image_shape, batch, dtype, **options):
    """All gradients are finite, each has a nonzero entry, and every running statistic moves."""
    model = architectures.create(name, dtype=dtype, **options)
    variables = filled(name, image_shape, train=True, **options)
    step = train_step(model, variables, pixels(batch, *(image_shape or NETWORKS[name].input_shape)))
    assert step.logits.dtype == dtype
    gradients = named_leaves(step.gradients)
    before, after = (named_leaves(tree) for tree in (variables.get('batch_stats', {}), step.batch_stats))
    assert all(np.all(np.isfinite(leaf)) for leaf in (*gradients.values(), *after.values(), step.loss))
    dead = {path for path, leaf in gradients.items() if not np.any(leaf)}
    assert not dead
    assert before.keys() == after.keys()
    assert not {path for path in before if np.array_equal(before[path], after[path])}
    assert all(leaf.dtype == np.float32 for leaf in (*gradients.values(), *after.values()))
    # A bias in front of a batch norm is subtracted again with the mean: the rest of its gradient is rounding.
    for path in gradients if dtype == 'float32' else ():  # of bfloat16, rounding is as large as what is summed
        if path.endswith('/bias') and path.replace('/bias', '_bn/bias') in gradients:
            rounding = np.max(np.abs(gradients[path])) / np.max(np.abs(gradients[path.replace('/bias', '_bn/bias')]))
            assert rounding < 1e-4, (path, rounding)


@pytest.mark.parametrize(
    'name, dtype',
    [(name, 'float32') for name in SMALL] + [(name, 'bfloat16') for name in ('lenet5', 'resnet20')],
)
def test_every_parameter_learns(name, dtype):
    assert_every_parameter_learns(name, SMALL_IMAGE.get(name), 4, dtype, **SMALL[name])


# In bfloat16, which is harder: one of each kind, and the deep ones whose code no other deep one repeats.
IN_BFLOAT16 = (
    'alexnet', 'zfnet', 'overfeat_fast', 'vgg_a', 'googlenet', 'bn_inception', 'prelu_net_a', 'resnet18', 'resnet50',
    'wide_resnet50_2', 'wrn_40_4', 'resnext50_32x4d', 'densenet_bc_100_12',
    *(name for name in NAMES if deep(name) and name not in ('densenet169', 'densenet201', 'resnet1202')),
)  # fmt: skip
ALONE = 'googlenet', 'bn_inception'  # of their kind
IN_FLOAT32 = [name for name in NAMES if name in ALONE or not (deep(name) or name in IN_BFLOAT16)]


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, dtype',
    [(name, 'bfloat16') for name in IN_BFLOAT16] + [(name, 'float32') for name in IN_FLOAT32],
)
def test_every_parameter_of_every_network_learns(name, dtype, monkeypatch):
    """With a fourth of the features and every layer. Long rows of equal blocks run as scans, on images of 64."""
    whole = paths(trace(name, train=True).variables)
    monkeypatch.setitem(globals(), 'trace', functools.cache(trace.__wrapped__))  # which is of these features
    shape, how = NETWORKS[name].input_shape, {}
    if name.startswith('se'):
        shape = (64, 64, 3)
        monkeypatch.setattr(senet, 'REDUCTION', 4)  # gates of as many units: one or two may be dead for both images
    if not name.startswith('lenet'):  # the units of 1998 and their connections are numbered
        quarter(monkeypatch)
        how['num_classes'] = 10
    if re.search(r'56|[1-9]\d\d', name) and hasattr(architectures.create(name), 'scan'):
        shape, how['scan'] = tuple(map(min, shape, (64, 64, 3))), True
    forms = contextlib.nullcontext() if dtype == 'float32' else layers.plain_forms()  # which compile in half the time
    with forms:
        assert paths(filled(name, shape, train=True, **how)) == whole
        assert_every_parameter_learns(name, shape, 2, dtype, **how)


@pytest.mark.parametrize('name', [name for name in SMALL if trace(name, **SMALL[name]).variables.get('batch_stats')])
def test_running_statistics_are_what_is_read_at_test_time_and_stay(name):
    model = architectures.create(name, **SMALL[name])
    image_shape = SMALL_IMAGE.get(name) or NETWORKS[name].input_shape
    variables = trace(name, image_shape, **SMALL[name]).variables
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)

    def forward(batch_stats, params, images):
        variables = {'params': params, 'batch_stats': batch_stats}
        return model.apply(variables, images, train=False, mutable=['batch_stats'])

    jaxpr = jax.make_jaxpr(forward)(variables['batch_stats'], variables['params'], images).jaxpr
    statistics = len(jax.tree.leaves(variables['batch_stats']))
    assert jaxpr.outvars[1:] == jaxpr.invars[:statistics]  # what comes out is what came in
    _, used = partial_eval.dce_jaxpr(jaxpr, [True] + [False] * statistics)
    assert all(used)


@pytest.mark.parametrize('name', ['resnet20', 'lenet5'])
def test_bfloat16_computes_and_float32_keeps(name):
    options = SMALL[name]
    model = architectures.create(name, dtype='bfloat16', **options)
    images = jax.ShapeDtypeStruct((4, *NETWORKS[name].input_shape), jnp.float32)
    variables = jax.eval_shape(model.init, KEY, images)
    logits, state = jax.eval_shape(
        functools.partial(model.apply, train=True, mutable=['batch_stats', 'activations']), variables, images
    )
    assert logits.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(state['activations'])} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, state.get('batch_stats')))} == {jnp.dtype(jnp.float32)}


# Dense


class Head(NamedTuple):
    """How a network ends: from which activation, of what side at training, by which layers."""

    last: str
    side: int
    fc: tuple
    image: tuple  # a larger one
    cells: tuple  # the map that it gives
    options: dict = MappingProxyType({})


CLASSES = {'num_classes': 7}
HEADS = {
    'lenet5': Head('pool2', 5, ('fc1', 'fc2', 'fc3'), (40, 44), (3, 4)),
    'alexnet': Head('pool5', 6, ('fc6', 'fc7', 'fc8'), (291, 259), (3, 2)),
    'alexnet_owt': Head('pool5', 6, ('fc6', 'fc7', 'fc8'), (288, 256), (3, 2)),
    'zfnet': Head('layer5', 6, ('layer6', 'layer7', 'output'), (288, 256), (3, 2)),
    'overfeat_fast': Head('layer5', 6, ('layer6', 'layer7', 'output'), (295, 263), (3, 2)),
    # Sermanet et al., table 5: the second scale, at one offset
    'overfeat_accurate': Head('layer6', 5, ('layer7', 'layer8', 'output'), (281, 317), (2, 3)),
    'vgg_a': Head('pool5', 7, ('fc6', 'fc7', 'fc8'), (256, 288), (2, 3)),
    'prelu_net_a': Head('conv4_5', 14, ('fc1', 'fc2', 'fc3'), (224, 240), (1, 2)),
    'googlenet': Head('inception_5b', 7, ('classifier',), (256, 288), (2, 3)),
    'bn_inception': Head('inception_5b', 7, ('classifier',), (256, 288), (2, 3)),
    'resnet18': Head('conv5_x', 7, ('fc',), (256, 288), (2, 3), {'depths': (1, 1, 1, 1)}),
    'resnet20': Head('stage3', 8, ('fc',), (36, 44), (2, 4), {'depth': 8}),
    'wrn_40_4': Head('conv4', 8, ('fc',), (44, 36), (4, 2), {'depth': 10}),
    'densenet121': Head('dense_block_4', 7, ('classifier',), (256, 288), (2, 3), {'blocks': (1, 1, 1, 1)}),
    'densenet_bc_100_12': Head('dense_block_3', 8, ('classifier',), (36, 40), (2, 3), {'blocks': (1, 1, 1)}),
}


def pyramid_of(window):
    """He et al. 2014, appendix A: 7x7, 3x3, 2x2 and 1x1 bins of [B, 14, 14, C], each the largest of its pixels."""
    bins = []
    for level in (7, 3, 2, 1):
        ends = [(math.floor(14 * i / level), math.ceil(14 * (i + 1) / level)) for i in range(level)]
        bins += [window[:, top:bottom, left:right].max((1, 2)) for top, bottom in ends for left, right in ends]
    return np.concatenate(bins, axis=-1)


def logits_of(name, window, variables):
    """The last layers in NumPy, from a window of the last map, as at training: [B, side, side, C] -> [B, classes]."""
    params, head = variables['params'], HEADS[name]
    if name.startswith('densenet'):  # BN-ReLU closes the last block
        statistics = variables['batch_stats']['norm_bn']
        norm = params['norm_bn']
        window = (window - statistics['mean']) / np.sqrt(statistics['var'] + 1e-5) * norm['scale'] + norm['bias']
        window = np.maximum(window, 0)
    if name.startswith('prelu_net'):
        x = pyramid_of(window)
    elif len(head.fc) == 1:
        x = window.mean((1, 2))
    else:
        x = window.reshape(len(window), -1)
    for layer in head.fc:
        kernel, bias = params[layer]['kernel'], params[layer]['bias']
        x = x @ kernel.reshape(-1, kernel.shape[-1]) + bias
        if layer != head.fc[-1]:
            slope = params[f'{layer}_prelu']['slope'] if f'{layer}_prelu' in params else 0
            x = np.where(x >= 0, x, slope * x)
    return x


def quick(*names):
    """Every name of `HEADS`, those that are not named marked slow: they end as the others do, and take longer."""
    return [pytest.param(name, marks=() if name in names else pytest.mark.slow) for name in HEADS]


@pytest.mark.parametrize(
    'name',
    quick('lenet5', 'alexnet', 'resnet18', 'wrn_40_4', 'densenet_bc_100_12'),
)
def test_a_dense_map_is_the_logits_of_every_window_of_the_last_map(name):
    head, channels = HEADS[name], NETWORKS[name].input_shape[-1]
    model = architectures.create(name, **CLASSES, **head.options)
    variables = filled(name, **CLASSES, **head.options)

    def dense(variables, images):
        kept = ['activations']
        scores, state = model.apply(variables, images, dense=True, mutable=kept)
        return scores, state['activations'][head.last]

    images = pixels(1, *head.image, channels)
    scores, last = jax.tree.map(np.asarray, compiled(dense)(variables, images))
    chex.assert_shape(scores, (1, *head.cells, 7))
    chex.assert_shape(last, (1, head.cells[0] + head.side - 1, head.cells[1] + head.side - 1, None))
    for i, j in np.ndindex(head.cells):
        window = last[:, i : i + head.side, j : j + head.side]
        assert_close(scores[:, i, j], logits_of(name, window, variables), 1e-4)
    assert len(np.unique(scores[..., 0])) == math.prod(head.cells)  # no two windows have the same


@pytest.mark.parametrize('name', quick('lenet5', 'resnet18', 'resnet20', 'densenet_bc_100_12'))
def test_at_the_training_size_the_dense_map_is_one_cell_the_logits(name):
    options = HEADS[name].options
    model = architectures.create(name, **options)
    variables = filled(name, **options)
    both = compiled(lambda v, x: (model.apply(v, x), model.apply(v, x, dense=True)))
    logits, scores = both(variables, pixels(1, *NETWORKS[name].input_shape))
    chex.assert_shape(logits, (1, NETWORKS[name].num_classes))
    chex.assert_shape(scores, (1, 1, 1, NETWORKS[name].num_classes))
    assert_close(scores[:, 0, 0], logits, 1e-5)


@pytest.mark.parametrize('name', ['lenet5', 'lenet5_1998'])
def test_without_padding_a_dense_cell_is_the_logits_of_its_crop(name):
    model = architectures.create(name)
    variables, images = filled(name), pixels(2, 40, 44, 1)
    crops = [images[:, 4 * i : 4 * i + 32, 4 * j : 4 * j + 32] for i, j in np.ndindex(3, 4)]
    both = compiled(lambda v, x, crops: (model.apply(v, x, dense=True), model.apply(v, crops)))
    scores, logits = both(variables, images, np.concatenate(crops))
    chex.assert_shape(scores, (2, 3, 4, 10))
    assert_close(scores, logits.reshape(3, 4, 2, 10).transpose(2, 0, 1, 3), 1e-5)


@pytest.mark.parametrize(
    'name, windows',
    [
        ('overfeat_accurate', {245: 1, 281: 2, 317: 3, 389: 5, 425: 6, 461: 7, 497: 8, 569: 10}),  # of 1 offset in 3
        ('vgg_d', {224: 1, 256: 2, 288: 3, 352: 5, 384: 6, 416: 7, 512: 10}),
        ('prelu_net_a', {224: 1, 256: 3, 384: 11, 480: 17}),
        ('resnet50', {224: 1, 256: 2, 384: 6, 480: 9, 640: 14}),
    ],
)
def test_windows_of_the_papers_test_scales(name, windows):
    options = {'depths': (1, 1, 1, 1)} if name == 'resnet50' else {}
    assert {
        side: trace(name, (side, side, 3), dense=True, **options).logits.shape for side in windows
    } == {side: (1, count, count, 1000) for side, count in windows.items()}  # fmt: skip


@pytest.mark.parametrize('name', FULLY_CONNECTED)
def test_fully_connected_networks_have_one_size(name):
    height, width, channels = NETWORKS[name].input_shape
    with pytest.raises(UserError, match='larger.*dense=True') as larger:
        trace(name, (height + 32, width + 64, channels))
    assert '\n' not in str(larger.value)
    for dense in (False, True):
        with pytest.raises(UserError, match='smaller than its training size') as smaller:
            trace(name, (height - 4 if height <= 32 else height - 32, width, channels), dense=dense)
        assert '\n' not in str(smaller.value)


@pytest.mark.parametrize('name', [name for name in HEADS if name not in FULLY_CONNECTED])
def test_the_others_take_any_size_and_are_dense_from_their_own(name):
    head, (height, width, channels) = HEADS[name], NETWORKS[name].input_shape
    for other in ((height // 2, width + 16, channels), (height // 2 + 9, width + 7, channels)):
        assert trace(name, other, **head.options).logits.shape == (1, NETWORKS[name].num_classes)
        with pytest.raises(UserError, match='smaller than its training size'):
            trace(name, other, dense=True, **head.options)


# Scan, recomputation, groups of batch norm


REMAT, SCAN, BOTH = {'remat': True}, {'scan': True}, {'scan': True, 'remat': True}
SCANNED = {
    'resnet18': {'depths': (1, 3), 'widths': (16, 32)},
    'resnet50': {'depths': (1, 3), 'widths': (64, 128), 'preactivation': True},
    'se_resnext50_32x4d': {'depths': (3, 1), 'widths': (128, 256)},
    'wrn_40_4': {'depth': 22, 'widen': 1},
    'resnet20': {'depth': 20, 'shortcut': 'A_centered'},
}
SCAN_FORMS = {'resnet18': (REMAT, SCAN, BOTH)}  # the others both at once


@pytest.mark.parametrize(
    'name, options, forms',
    [
        ('densenet121', {'blocks': (2, 2), 'growth': 8}, (REMAT,)),
        *((*network, SCAN_FORMS.get(network[0], (BOTH,))) for network in SCANNED.items()),
    ],
)
@pytest.mark.optimized
@pytest.mark.slow
def test_scanned_and_recomputed_a_network_is_the_same(name, options, forms):
    image = (32, 32, 3)
    plain, images = architectures.create(name, **options), pixels(4, *image)
    variables = filled(name, image, **options)
    expected = train_step(plain, variables, images)
    for form in forms:
        model = architectures.create(name, **options, **form)
        chex.assert_trees_all_equal_shapes_and_dtypes(jax.eval_shape(model.init, KEY, images), variables)
        step = train_step(model, variables, images)
        assert_close(step.logits, expected.logits, 1e-5)
        assert_close(step.batch_stats, expected.batch_stats, 1e-5)
        assert_close(step.gradients, expected.gradients, 1e-4)  # longer sums, in another order


def test_scanned_a_network_predicts_the_same_and_starts_from_the_same_weights():
    plain, scanned = (architectures.create('resnet20', depth=14, scan=scan) for scan in (False, True))
    both = compiled(lambda v, x: (plain.apply(v, x), scanned.apply(v, x)))
    logits, of_scan = both(filled('resnet20', depth=14), pixels(2, 32, 32, 3))
    assert_close(of_scan, logits, 1e-5)
    block = 'stage3/block2/conv1/kernel'
    chex.assert_trees_all_equal(*(drawn('resnet20', block, depth=14, scan=scan) for scan in (False, True)))


def test_dropout_in_a_scan():
    options = {'depth': 16, 'widen': 1, 'dropout': 0.3}
    model = architectures.create('wrn_40_4', scan=True, **options)

    @compiled
    def forward(variables, images, key):
        return model.apply(variables, images, train=True, mutable=['batch_stats'], rngs={'dropout': key})[0]

    run = functools.partial(forward, filled('wrn_40_4', **options), pixels(4, 32, 32, 3))
    one, again, other = (np.asarray(run(jax.random.key(seed))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.all(np.any(one != other, axis=1))


def test_groups_of_batch_norm_are_batches_of_their_own():
    options, images = {'batch_norm': True}, pixels(8, 32, 32, 1)
    whole, variables = architectures.create('lenet5', **options), filled('lenet5', **options)
    step = train_step(architectures.create('lenet5', group_size=4, **options), variables, images)
    halves = [train_step(whole, variables, half) for half in np.split(images, 2)]
    mean = functools.partial(jax.tree.map, lambda *leaves: sum(leaves) / 2)
    assert_close(step.logits, np.concatenate([half.logits for half in halves]), 1e-5)
    # Running variances, too, are unbiased by the pixels of a group, not of the batch.
    assert_close(step.batch_stats, mean(*(half.batch_stats for half in halves)), 1e-5)


# Options


def test_activations_are_taken_after_the_activation_and_normalization_and_pools_in_the_papers_order():
    norm, caffe = (functools.partial(layers.local_response_norm, reading=reading) for reading in ('paper', 'caffe'))
    pool = functools.partial(layers.max_pool, window=3, stride=2)
    ceil = functools.partial(pool, ceil=True)
    agree = functools.partial(chex.assert_trees_all_close, rtol=1e-5)

    @compiled
    def of_alexnet(variables, images):
        def kept(**options):
            return architectures.activations(architectures.create('alexnet', **options), variables, images)

        found, bare, swapped = kept(), kept(lrn='none')['pool1'], kept(pool_before_norm=True)['pool1']
        conv1 = found['conv1']
        return found, (found['pool1'], bare, swapped), (pool(norm(conv1)), pool(conv1), pool(conv1)), norm(conv1)

    found, pools, expected, normed = of_alexnet(filled('alexnet'), 10 * pixels(1, 227, 227, 3))
    assert {layer: x.shape[1:] for layer, x in found.items()} == facts.FEATURE_MAPS['alexnet']
    for layer in ('conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7'):
        assert found[layer].min() == 0 < found[layer].max()
    assert found['fc8'].min() < 0
    assert not np.allclose(normed, found['conv1'], rtol=1e-3)  # it is felt
    agree(pools, expected)

    @compiled
    def of_googlenet(variables, images):
        found = architectures.activations(architectures.create('googlenet'), variables, images)
        return found['pool2'], ceil(caffe(found['conv2']))

    agree(*of_googlenet(filled('googlenet', (64, 64, 3)), 10 * pixels(1, 64, 64, 3)))

    @compiled
    def of_zfnet(variables, images):
        found = architectures.activations(architectures.create('zfnet'), variables, images)
        conv, pooled = found['layer1_conv'], found['layer1_pool']
        return (pooled, found['layer1']), (ceil(conv), norm(ceil(conv)))

    agree(*of_zfnet(filled('zfnet'), 10 * pixels(1, 224, 224, 3)))


ACTIVATIONS = {
    'relu': lambda x: np.maximum(x, 0),
    'leaky_relu': lambda x: np.where(x >= 0, x, 0.01 * x),
    'prelu': lambda x: np.where(x >= 0, x, 0.25 * x),  # as it starts
    'tanh': np.tanh,
    'scaled_tanh': lambda x: 1.7159 * np.tanh(2 * x / 3),
    'sigmoid': lambda x: 1 / (1 + np.exp(-x)),
}


@pytest.mark.parametrize('activation', layers._ACTIVATIONS)
def test_every_activation(activation):
    model, images = architectures.create('lenet5', activation=activation), pixels(2, 32, 32, 1)
    variables = jax.tree.map(np.asarray, dict(filled('lenet5', activation=activation)))
    if activation == 'prelu':
        slope = variables['params']['conv1_prelu']['slope']
        variables['params']['conv1_prelu']['slope'] = np.full_like(slope, 0.25)
    conv1 = compiled(lambda v, x: architectures.activations(model, v, x)['conv1'])(variables, images)
    kernel, bias = (variables['params']['conv1'][kind] for kind in ('kernel', 'bias'))
    windows = np.lib.stride_tricks.sliding_window_view(images, (5, 5), (1, 2))
    before = np.einsum('bhwcij,ijcf->bhwf', windows, kernel) + bias
    chex.assert_trees_all_close(np.asarray(conv1), ACTIVATIONS[activation](before).astype(np.float32), atol=1e-5)


def test_prelu_has_a_slope_for_each_channel():
    # LeNet-5: one for each map and unit but the outputs. ResNet: after conv1, and two a block of 18 in each stage.
    assert counts('lenet5', activation='prelu')[0] == NETWORKS['lenet5'].parameters + 6 + 16 + 120 + 84
    slopes = 16 + 2 * 18 * (16 + 32 + 64)
    assert counts('resnet110', activation='prelu')[0] == NETWORKS['resnet110'].parameters + slopes


def test_batch_norm_wherever_there_is_a_convolution():
    channels = 96 + 256 + 384 + 384 + 256
    plain = NETWORKS['alexnet']
    assert counts('alexnet', batch_norm=True, lrn='none') == (
        plain.parameters + 2 * channels, 2 * channels, plain.multiply_adds
    )  # fmt: skip
    params = trace('alexnet', batch_norm=True).variables['params']
    assert {name for name in params if name.endswith('_bn')} == {f'conv{n}_bn' for n in range(1, 6)}
    assert_every_parameter_learns('lenet5', None, 4, 'float32', batch_norm=True)


def test_without_batch_norm_convolutions_have_biases():
    # As many as there were scales and shifts, less the scales.
    entry = NETWORKS['resnet20']
    assert counts('resnet20', batch_norm=False) == (entry.parameters - entry.statistics // 2, 0, entry.multiply_adds)


@pytest.mark.parametrize(
    'name', ['alexnet', 'alexnet_owt', 'zfnet', 'overfeat_fast', 'vgg_a', 'prelu_net_a', 'googlenet']
)
def test_dropout_of_rate_0_draws_nothing(name):
    images = jax.ShapeDtypeStruct((1, *NETWORKS[name].input_shape), jnp.float32)
    none = {'dropout': 0.0, **({'auxiliary_dropout': 0.0} if name == 'googlenet' else {})}
    variables = trace(name, train=True).variables

    def forward(variables, images, **options):
        return architectures.create(name, **options).apply(variables, images, train=True, mutable=['auxiliary'])[0]

    assert jax.eval_shape(functools.partial(forward, **none), variables, images).shape == (1, 1000)
    with pytest.raises(flax.errors.InvalidRngError, match='dropout'):
        jax.eval_shape(forward, variables, images)


def test_lenet5_drops_half_of_its_two_hidden_layers_when_it_is_asked_to():
    images, variables, dropped = pixels(4, 32, 32, 1), filled('lenet5'), []

    def record(call, args, kwargs, context):
        result = call(*args, **kwargs)
        if isinstance(context.module, nn.Dropout):
            dropped.append((np.asarray(args[0]), np.asarray(result)))
        return result

    plain, model = architectures.create('lenet5'), architectures.create('lenet5', dropout=0.5)
    assert_close(model.apply(variables, images), plain.apply(variables, images), 0)
    with nn.intercept_methods(record):
        model.apply(variables, images, train=True, rngs={'dropout': KEY})
    assert [before.shape[-1] for before, _ in dropped] == [120, 84]
    for before, after in dropped:
        assert set(np.unique(after[before != 0] / before[before != 0])) == {0, 2}
    assert counts('lenet5', dropout=0.5) == counts('lenet5')


@pytest.mark.parametrize(
    'name, options, message',
    [
        ('resnet50', {'shortcut': 'D'}, 'shortcut must be one of A, A_centered, B, C, none'),
        ('resnet20', {'shortcut': 'D'}, 'shortcut must be one of A, A_centered, B, C, none'),
        ('resnet50', {'stride_in': '5x5'}, 'stride_in must be one of 1x1, 3x3'),
        ('resnet50', {'stem_pool': 'floor'}, 'stem_pool must be one of ceil, padded'),
        ('alexnet', {'lrn': 'papers'}, 'lrn must be one of paper, cuda_convnet, caffe'),
        ('vgg_d', {'column': 'F'}, 'column must be one of A, A-LRN, B, C, D, E'),
        ('prelu_net_a', {'model': 'D'}, 'model must be one of A, B, C'),
        ('resnet20', {'depth': 21}, '6n [+] 2, not 21'),
        ('wrn_40_4', {'depth': 20}, '6n [+] 4, not 20'),
        ('googlenet', {'activation': 'rellu'}, 'did you mean relu'),
        ('densenet121', {'initializer': 'xavir'}, 'did you mean xavier'),
        ('densenet121', {'initializer': 'gaussian_wide'}, 'did you mean gaussian_0.01'),
    ],
)
def test_wrong_values_are_reported_in_one_line_when_the_network_is_made(name, options, message):
    with pytest.raises(UserError, match=message) as error:
        trace(name, **options)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'options, message',
    [
        ({'dtype': 'float99'}, "dtype must be float32 or bfloat16, not 'float99'"),
        ({'param_dtype': 'brain16'}, "param_dtype must be float32 or bfloat16, not 'brain16'"),
        ({'shortcuts': 'A'}, "resnet50 has no option 'shortcuts', did you mean shortcut"),
        ({'parent': None}, "resnet50 has no option 'parent'"),
    ],
)
def test_wrong_options_are_reported_by_create(options, message):
    with pytest.raises(UserError, match=message):
        architectures.create('resnet50', **options)


def test_options_from_a_file_are_those_of_the_code():
    ours = architectures.create('resnet18', depths=(1, 1, 1, 1), dtype=jnp.bfloat16)
    assert architectures.create('resnet18', depths=[1, 1, 1, 1], dtype='bfloat16') == ours


@pytest.mark.parametrize('name', ['lenet5_1998', 'googlenet', 'resnet20'])
def test_the_variables_that_are_traced_are_those_of_a_start(name):
    model, shape = architectures.create(name), NETWORKS[name].input_shape
    for train in (False, True):  # GoogLeNet gets its heads only to train
        start = jax.eval_shape(lambda train=train: architectures.initialize(model, 0, shape, train=train))
        chex.assert_trees_all_equal_shapes_and_dtypes(start, trace(name, train=train).variables)


# How weights start: the papers' words, and the authors' files where they say nothing


@pytest.mark.parametrize(
    'names, initializer',
    [
        ('alexnet alexnet_owt zfnet zfnet_wide overfeat_fast overfeat_accurate', 'gaussian_0.01'),
        ('vgg_a vgg_a_lrn vgg_b vgg_c vgg_d vgg_e', 'gaussian_0.1'),
        ('wrn_28_10 wrn_40_4 bn_inception', 'he_fan_in'),
        ('googlenet', 'caffe_xavier'),
        ('lenet5_1998', 'lecun_uniform'),
        ('lenet5', ''),  # by its activation
    ],
)
def test_initializers_by_name(names, initializer):
    assert {architectures.create(name).initializer for name in names.split()} == {initializer}


def test_the_others_start_with_the_fan_out():
    others = [name for name in NAMES if name.startswith(('prelu', 'plain', 'res', 'wide', 'dense', 'se'))]
    assert len(others) == 38 and {architectures.create(name).initializer for name in others} == {'he_fan_out'}


def drawn(name, *wanted, image_shape=None, **options):
    """The parameters of those paths as `init` draws them; the others are not computed."""
    model = architectures.create(name, **options)
    images = jnp.zeros((1, *(image_shape or NETWORKS[name].input_shape)))

    @compiled
    def init(key):
        params = model.init(key, images)['params']
        return [functools.reduce(dict.__getitem__, path.split('/'), params) for path in wanted]

    with layers.plain_forms():
        return [np.asarray(leaf) for leaf in init(KEY)]


@pytest.mark.parametrize(
    'name, options, path, deviation',
    [
        ('alexnet', {}, 'conv2', 0.01),  # Krizhevsky et al. 2012, section 5
        ('vgg_a', {}, 'conv3_2', 0.1),  # a VARIANCE of 0.01: Simonyan and Zisserman 2014, section 3.1
        ('prelu_net_a', {}, 'conv2_1', math.sqrt(2 / (9 * 256))),  # He et al. 2015, Eq. 14: 3x3x96 to 256
        ('resnet18', {}, 'conv3_x/block1/conv1', math.sqrt(2 / (9 * 128))),  # 3x3x64 to 128
        ('resnet50', {}, 'conv3_x/block1/conv1', math.sqrt(2 / 128)),  # 1x1x256 to 128
        ('resnet20', {}, 'stage3/block1/conv1', math.sqrt(2 / (9 * 64))),
        ('se_resnet18', {}, 'conv4_x/block1/conv1', math.sqrt(2 / (9 * 256))),
        ('resnext50_32x4d', {}, 'conv4_x/block1/conv2', math.sqrt(2 / (9 * 512))),  # its groups make no difference
        ('wrn_40_4', {}, 'conv3/block1/conv1', math.sqrt(2 / (9 * 64))),  # the authors' code: 3x3x64 to 128, the fan IN
        ('densenet121', {}, 'dense_block_2/layer1/conv1', math.sqrt(2 / 128)),  # 1x1x128 to 128
        ('densenet121', {}, 'dense_block_2/layer1/conv2', math.sqrt(2 / (9 * 32))),  # 3x3x128 to 32
        ('resnet18', {'initializer': 'gaussian_0.02'}, 'conv3_x/block1/conv1', 0.02),
        ('resnet18', {'initializer': 'he_fan_in'}, 'conv3_x/block1/conv1', math.sqrt(2 / (9 * 64))),
    ],
)
def test_normal_weights(name, options, path, deviation):
    (kernel,) = drawn(name, f'{path}/kernel', **options)
    # The spread of n draws is known to 1 in sqrt(2n): four times that.
    assert np.std(kernel) == pytest.approx(deviation, rel=4 / math.sqrt(2 * kernel.size))
    assert abs(np.mean(kernel)) < 4 * deviation / math.sqrt(kernel.size)
    within = np.mean(np.abs(kernel) < deviation)
    assert within == pytest.approx(0.6827, abs=0.02)  # of a normal distribution


@pytest.mark.parametrize(
    'name, options, path, bound',
    [
        ('googlenet', {}, 'inception_4a/3x3', math.sqrt(3 / (9 * 96))),  # Caffe's xavier: 3x3x96 to 208
        ('googlenet', {}, 'classifier', math.sqrt(3 / 1024)),
        ('wrn_40_4', {}, 'fc', math.sqrt(1 / 256)),  # Torch's default
        ('densenet121', {}, 'classifier', math.sqrt(1 / 1024)),
        ('resnext50_32x4d', {}, 'fc', math.sqrt(1 / 2048)),
        ('lenet5', {'activation': 'tanh'}, 'conv2', 2.4 / (25 * 6)),  # LeCun et al. 1998, appendix A
        ('lenet5', {}, 'conv2', math.sqrt(6 / (25 * 6))),
        ('lenet5_1998', {}, 'C5', 2.4 / (25 * 16)),
        ('resnet18', {'initializer': 'xavier'}, 'conv3_x/block1/conv1', math.sqrt(6 / (9 * (64 + 128)))),
        ('resnet18', {'initializer': 'caffe_xavier'}, 'conv3_x/block1/conv1', math.sqrt(3 / (9 * 64))),
        ('resnet18', {'initializer': 'torch'}, 'conv3_x/block1/conv1', math.sqrt(1 / (9 * 64))),
        ('resnet18', {'initializer': 'he_uniform'}, 'conv3_x/block1/conv1', math.sqrt(6 / (9 * 64))),
        ('resnet18', {'initializer': 'lecun_uniform'}, 'conv3_x/block1/conv1', 2.4 / (9 * 64)),
    ],
)
def test_uniform_weights(name, options, path, bound):
    (kernel,) = drawn(name, f'{path}/kernel', **options)
    assert 0.98 * bound < np.max(kernel) <= bound and 0.98 * bound < -np.min(kernel) <= bound
    assert np.std(kernel) == pytest.approx(bound / math.sqrt(3), rel=4 / math.sqrt(2 * kernel.size))


def biases(name, **options):
    """{layer: the one value of its bias}."""
    wanted = [path for path in paths(trace(name, **options).variables['params']) if path.endswith('bias')]
    values = {
        path.removesuffix('/bias'): np.unique(leaf)
        for path, leaf in zip(wanted, drawn(name, *wanted, **options), strict=True)
    }
    assert all(len(value) == 1 for value in values.values())
    return {path: float(value[0]) for path, value in values.items()}


def test_alexnets_biases():
    ones = {'conv2', 'conv4', 'conv5', 'fc6', 'fc7'}  # Krizhevsky et al. 2012, section 5
    assert biases('alexnet') == {
        layer: float(layer in ones) for layer in ('conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7', 'fc8')
    }
    assert set(biases('alexnet', hidden_bias=0.1).values()) == {0.0, np.float32(0.1)}


def test_googlenets_biases():
    started = biases('googlenet')
    assert started.pop('classifier') == 0
    assert set(started.values()) == {np.float32(0.2)} and len(started) == 57


@pytest.mark.parametrize(
    'name', ['zfnet', 'overfeat_fast', 'vgg_a', 'prelu_net_a', 'resnet18', 'wrn_40_4', 'densenet121']
)
def test_other_biases_are_0(name):
    assert set(biases(name).values()) == {0.0}


def test_batch_norm_starts_as_the_identity_and_prelu_at_a_quarter():
    options = {'depth': 8, 'activation': 'prelu'}
    model, images = architectures.create('resnet20', **options), jnp.zeros((1, 32, 32, 3))
    values = {'scale': 1.0, 'mean': 0.0, 'var': 1.0, 'slope': 0.25}

    @compiled
    def start(key):
        variables = model.init(key, images)
        leaves = dict(zip(paths(variables), jax.tree.leaves(variables), strict=True))
        return {path: leaf for path, leaf in leaves.items() if path.split('/')[-1] in values}

    found = {
        kind: {float(x) for path, leaf in start(KEY).items() if path.endswith(kind) for x in leaf} for kind in values
    }
    assert found == {kind: {value} for kind, value in values.items()}
