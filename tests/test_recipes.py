"""Every recipe builds, trains two steps, is tested, saved and restored, at a reduced size."""

import chex
import jax
import numpy as np
import pytest
from conftest import evaluate_folder, narrow, quickly

import architectures
from architectures import layers
from configs import listing
from input_pipeline import datasets
from input_pipeline.example import ArraySource
from runtime.errors import UserError
from training import checkpoints, loop
from training.log import read
from training.run import Run, check

SERIES = ('alexnet_ensemble', 'decade', 'googlenet_ensemble', 'googlenet_finetuned', 'lenet5_improved', 'vgg_chain')
QUICK = ('lenet5', 'resnet20')
# Fewer blocks of the same kind: these tests are about the recipe, not the network.
SHALLOW = {
    **{f'resnet{depth}': {'depths': (1, 1, 1, 1)} for depth in (18, 34, 50, 101, 152)},
    **{f'plain{depth}': {'depths': (1, 1, 1, 1)} for depth in (18, 34)},
    **{f'se_resnet{depth}': {'depths': (1, 1, 1, 1)} for depth in (18, 34, 50, 101, 152)},
    **{f'resnext{name}': {'depths': (1, 1, 1, 1)} for name in ('50_32x4d', '101_32x4d', '101_64x4d')},
    **{f'se_resnext{name}': {'depths': (1, 1, 1, 1)} for name in ('50_32x4d', '101_32x4d')},
    'wide_resnet50_2': {'depths': (1, 1, 1, 1)},
    **{f'resnet{depth}': {'depth': 8} for depth in (20, 32, 44, 56, 110, 1202)},
    **{f'plain{depth}': {'depth': 8} for depth in (20, 32, 44, 56)},
    **{name: {'depth': 10, 'widen': 1} for name in ('wrn_28_10', 'wrn_40_4')},
    **{f'densenet{depth}': {'blocks': (2, 1, 1, 1)} for depth in (121, 169, 201, 264, 161)},
    'densenet_bc_100_12': {'blocks': (2, 1, 1)},
    'senet154': {'depths': (1, 1, 1, 1)},
}
RECIPES = [
    pytest.param(name, marks=() if name == 'lenet5' else pytest.mark.slow)
    for name in listing.names()
    if name not in SERIES
]


def tiny(config, split, any_classes=False):
    """Eight images of the config's size, in place of its data set, whose classes are the config's: any are right."""
    del any_classes
    rng = np.random.default_rng(split == config.test_split)
    shape = (8, config.image_size, config.image_size, config.channels)
    names = [str(number) for number in range(config.num_classes)]
    return ArraySource(rng.integers(0, 256, shape, np.uint8), np.arange(8) % 5, names, split)


@pytest.fixture
def small_world(monkeypatch):
    """Tiny data sets, one device, and programs that compile fast and run slowly."""
    monkeypatch.setattr(layers, 'compiler_options', lambda: {'xla_backend_optimization_level': 0})
    monkeypatch.setattr(datasets, 'open_split', tiny)
    with jax.default_prng_impl('unsafe_rbg'):
        yield


TRAINED = {}  # what a run computes: the recipe that has done so in this process


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_trains_is_tested_saved_and_restored(name, small_world, monkeypatch, tmp_path):
    whole = listing.load(name)
    check(whole)
    with layers.plain_forms():  # sooner traced
        quickly(lambda: Run(whole))  # its shapes, at its own size
    narrow(monkeypatch)
    if name not in QUICK:  # the CPU's quick forms take longer to compile; those two recipes keep them
        monkeypatch.setattr(layers, '_tuned', lambda: False)
    small = name if name == 'lenet5_digits' else f'{name}:cifar10'
    config = listing.load(f'{small}{"," if ":" in small else ":"}epochs=1')
    config.architecture_options.update(SHALLOW.get(config.architecture, {}))
    config.update({'batch_size': 4, 'steps_per_dispatch': 1, 'test_batch_size': 8, 'recompute_batch_stats': 2})
    config.distortion.versions = 1
    if config.optimizer == 'sdlm':
        config.sdlm_samples = 8
    if TRAINED.setdefault(what_it_computes(config), name) != name:  # with fewer blocks, ResNet-101 is ResNet-50
        return
    loop.train(config, tmp_path)

    *_, epoch, finished = (row for row in read(tmp_path) if row['kind'] in ('train', 'epoch', 'finished'))
    assert epoch['step'] == finished['step'] == 2 and epoch['test_num_examples'] == 8
    assert np.isfinite(epoch['train_loss']) and np.isfinite(epoch['test_loss'])
    run = Run(config)
    with checkpoints.Checkpoints(tmp_path / checkpoints.FOLDER, read_only=True) as kept:
        restored = kept.restore(run.abstract_state(), 2)
    chex.assert_trees_all_equal_shapes_and_dtypes(restored, run.abstract_state())
    assert int(restored.step) == 2
    assert evaluate_folder(config, tmp_path, 'latest')['wrong_top1'] == epoch['test_wrong_top1']


def what_it_computes(config):
    """The network and the values of a config, without its name."""
    options = {'num_classes': config.num_classes, **config.architecture_options}
    values = {key: value for key, value in config.items() if not key.startswith('architecture')}
    return repr(architectures.create(config.architecture, **options)), repr(values)


@pytest.mark.parametrize('name', SERIES)
def test_the_members_of_a_series_are_complete_recipes(name):
    series = listing.load(name)
    assert set(series.order) == set(series.members.keys())
    for member in series.members.values():
        check(member)


@pytest.mark.slow
def test_the_lectures_vgg_diverges_and_says_so(small_world, monkeypatch, tmp_path):
    narrow(monkeypatch)
    config = listing.load('vgg_a:lecture,cifar10,epochs=1')
    config.update({'batch_size': 4, 'test_batch_size': 8, 'learning_rates': ((1, 0.1),)})
    with pytest.raises(UserError, match=r'no longer a finite number at step \d \(learning rate 0.1\); stopped, '):
        loop.train(config, tmp_path)


def test_a_checkpoint_of_another_recipe_is_refused(small_world, tmp_path):
    config = listing.load('lenet5_digits')
    config.update({'num_epochs': 1.0, 'learning_rates': ((1, 0.02),), 'batch_size': 4, 'test_batch_size': 8})
    loop.train(config, tmp_path)
    other = config.copy_and_resolve_references()
    other.pixel_range = (0.0, 1.0)
    with pytest.raises(UserError, match=r'was trained on images with pixel_range=\[-0.1, 1.175\]'):
        evaluate_folder(other, tmp_path)
    other = config.copy_and_resolve_references()
    other.architecture_options.activation = 'tanh'  # the same shapes
    with pytest.raises(UserError, match="has activation='relu' and the config 'tanh': it is of another recipe"):
        evaluate_folder(other, tmp_path)
    other = config.copy_and_resolve_references()
    other.architecture_options.initializer = 'xavier'  # nothing to a trained network
    assert evaluate_folder(other, tmp_path)['num_examples'] == 8
