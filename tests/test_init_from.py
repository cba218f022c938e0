"""Weights of one network as the start of another."""

import functools

import chex
import jax
import numpy as np
import pytest
from conftest import digits, narrow

import architectures
from runtime.errors import UserError
from training import checkpoints, init_from, loop, optimizers, step
from training.log import read

# The seven layers that the deeper networks take from A (Simonyan and Zisserman 2014, section 3.1), by shape.
OF_A = ('conv1_1', 'conv2_1', 'conv3_1', 'conv3_2', 'fc6', 'fc7', 'fc8')
SMALL = {'num_classes': 3, 'window': 1}


@pytest.fixture(scope='module', autouse=True)
def narrow_networks():
    with pytest.MonkeyPatch.context() as patch:
        narrow(patch)
        yield


@functools.cache
def variables_of(name, seed, **options):
    model = architectures.create(name, **options)
    made = jax.jit(functools.partial(step.create_state, model, optimizers.create('sgd'), (32, 32, 3), seed))()
    return made


def saved(folder, name, seed, **options):
    info = {'architecture': name, 'architecture_options': {}, 'num_classes': 10, 'examples_seen': 0}
    with checkpoints.Checkpoints(folder / checkpoints.FOLDER) as kept:
        kept.save(variables_of(name, seed, **options), info)
    return folder


@pytest.fixture(scope='module')
def vgg_a(tmp_path_factory):
    return saved(tmp_path_factory.mktemp('a'), 'vgg_a', 1, **SMALL)


@pytest.mark.slow
def test_vgg_d_starts_from_seven_layers_of_a(vgg_a):
    fresh, source = variables_of('vgg_d', 2, **SMALL).variables, variables_of('vgg_a', 1, **SMALL).params
    weights = init_from.load(vgg_a, fresh, OF_A)
    after = init_from.apply(weights, fresh)
    assert set(weights.copied) == set(OF_A)
    assert len(weights.left) == 16 - 7
    for name, layer in after['params'].items():
        chex.assert_trees_all_equal(layer, source[name] if name in OF_A else fresh['params'][name])
    assert weights.notes[0].endswith('7 layers copied: conv1_1, conv2_1, conv3_1, conv3_2, fc6, fc7, fc8')
    assert weights.notes[1].startswith('init_from: start at random (9): conv1_2, conv2_2, conv3_3, ')


def test_without_names_all_layers_that_fit_are_taken(vgg_a):
    # The lecture's chain: B keeps A's layers in their places, the new ones stand at the end of their blocks.
    fresh = variables_of('vgg_b', 2, **SMALL).variables
    weights = init_from.load(vgg_a, fresh)
    assert len(weights.copied) == 11 and weights.left == ['conv1_2', 'conv2_2']
    # Another number of classes: the classifier starts anew.
    other = variables_of('vgg_a', 2, num_classes=5, window=1).variables
    assert init_from.load(vgg_a, other).left == ['fc8']


def test_batch_statistics_and_blocks_are_copied(tmp_path):
    saved(tmp_path, 'resnet20', 1, depth=8)
    fresh = variables_of('resnet20', 2, depth=14).variables
    weights = init_from.load(tmp_path, fresh, ('stage1/block2=stage1/block1', 'conv1', 'conv1_bn'))
    after, source = init_from.apply(weights, fresh), variables_of('resnet20', 1, depth=8)
    chex.assert_trees_all_equal(after['params']['stage1']['block2'], source.params['stage1']['block1'])
    chex.assert_trees_all_equal(after['batch_stats']['stage1']['block2'], source.batch_stats['stage1']['block1'])
    chex.assert_trees_all_equal(after['params']['stage1']['block1'], fresh['params']['stage1']['block1'])


@pytest.mark.parametrize(
    'name, layers, says',
    [
        ('vgg_b', ('conv1_3',), "this network has no layer 'conv1_3', did you mean conv1_"),
        ('vgg_b', ('conv1_2',), "has no layer 'conv1_2'"),
        ('vgg_b', ('conv1_2=conv1_1',), r'conv1_2 has .* of .* here, and conv1_1'),
        ('resnet20', (), r'\(vgg_a\) does not fit this network'),
    ],
)
def test_what_does_not_fit_is_reported(vgg_a, name, layers, says):
    options = {'depth': 8} if name == 'resnet20' else SMALL
    with pytest.raises(UserError, match=says):
        init_from.load(vgg_a, variables_of(name, 2, **options).variables, layers)


def test_a_run_starts_from_another(tmp_path, capfd, linear):
    config = digits(architecture='linear', num_epochs=1.0, learning_rates=((1, 0.02),))
    loop.train(config, tmp_path / 'first')
    config.update({'init_from': str(tmp_path / 'first'), 'learning_rates': ((1, 1e-9),), 'seed': 1})
    second = loop.train(config, tmp_path / 'second')
    assert '(linear): 1 layers copied: fc' in capfd.readouterr().out
    first = [row for row in read(tmp_path / 'first') if row['kind'] == 'epoch'][-1]
    # At a rate of next to nothing it is the network that it started from.
    assert second['test_wrong_top1'] == first['test_wrong_top1']
    assert np.isclose(second['test_loss'], first['test_loss'], rtol=1e-4)
    (row,) = (row for row in read(tmp_path / 'second') if row['kind'] == 'init_from')
    assert row['left'] == [] and row['step'] == 0
    config.init_from = str(tmp_path / 'nothing')
    with pytest.raises(UserError, match='does not exist'):
        loop.train(config, tmp_path / 'third')
    assert not (tmp_path / 'third').exists()
