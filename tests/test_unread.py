"""Keys without effect: each rule is compared with what a run computes, and every key has a rule or always counts."""

import functools

import jax
import numpy as np
import pytest
from conftest import digits
from flax import linen as nn

import training.run
from configs import base, listing, series
from input_pipeline import crops
from input_pipeline.example import ArraySource
from input_pipeline.pixels import Pixels
from runtime.errors import UserError
from training import schedules, unread
from training.run import Run

ALWAYS = {  # keys that have an effect whatever the others are
    'accumulate', 'architecture', 'average', 'batch_size', 'bias_rate', 'channels', 'checkpoint_every_steps',
    'clip_norm', 'colour.flip', 'colour.jitter', 'colour.lighting', 'colour.padding', 'colour.rotation',
    'colour.scale', 'colour.value_shift', 'crop.kind', 'data_seed', 'dataset', 'distortion.versions', 'dtype',
    'filter_rms', 'image_size', 'init_from', 'log_every_steps', 'loss', 'mesh.model', 'normalize', 'num_classes',
    'optimizer', 'profile_steps', 'scale_lr', 'schedule', 'seed', 'stall_steps', 'steps', 'stop_at_step',
    'test_batch_size', 'test_crop.kind', 'test_split', 'tracker', 'train_split', 'trained_layers',
    'warmup.learning_rate', 'weight_decay',
}  # fmt: skip
OTHERS = ('sgd', 'adam', 'adagrad', 'rmsprop')  # optimizers that have no velocity as they are
RULES = {  # key: (another value, what must be so for it to be read, or one such case or several where it is not)
    'learning_rates': (((1, 0.5),), {}, {'schedule': 'cosine'}),
    'learning_rate': (7.0, {'schedule': 'cosine'}, {}),
    'decay_every': (0.1, {'schedule': 'every'}, {}),
    'decay_factor': (0.5, {'schedule': 'every', 'decay_every': 0.1}, {'schedule': 'inverse'}),
    'decay_power': (0.75, {'schedule': 'polynomial'}, {}),
    'plateau.factor': (0.5, {'schedule': 'plateau'}, {}),
    'plateau.patience': (2, {'schedule': 'plateau'}, {}),
    'warmup.steps': (3, {'warmup.learning_rate': 0.1}, {}),
    'num_epochs': (2.0, {}, {'steps': 5}),
    'reference_batch_size': (64, {'scale_lr': True}, {}),
    'momentum': (0.5, {'optimizer': 'nesterov'}, {'optimizer': 'adam'}),
    'rate_inside': (True, {'optimizer': 'momentum'}, [{'optimizer': name} for name in OTHERS]),
    'decayed': ('weights', {'weight_decay': 0.1}, {}),
    'rubbish_penalty': (3.0, {'loss': 'discriminative_penalty'}, {}),
    'average_decay': (0.5, {'average': 'ema'}, {}),
    'average_start': (0.25, {'average': 'uniform'}, {'average': 'ema'}),
    'distortion.shear': (0.4, {'distortion.versions': 3}, {}),
    'colour.jitter_strength': (0.9, {'colour.jitter': 'fb'}, {}),
    'colour.lighting_deviation': (0.9, {'colour.lighting': 'fb'}, {}),
    'colour.padding_mode': ('reflect', {'colour.padding': 4}, {}),
    'pixel_range': ((0.0, 1.0), {'normalize': 'range'}, {'normalize': 'constant'}),
    'mean': ('fb', {'normalize': 'constant'}, {'normalize': 'range'}),
    'std': ('fb', {'normalize': 'constant'}, {'normalize': 'range'}),
    'channel_order': ('bgr', {}, {'channels': 1}),
    'crop.area': ((0.2, 0.3), {'crop.kind': 'area'}, {'crop.kind': 'random'}),
    'crop.form': ('torchvision', {'crop.kind': 'area'}, {}),
    'crop.short_side': ((40, 40), {'crop.kind': 'center'}, {'crop.kind': 'whole'}),
    'crop.square': (True, {'crop.kind': 'random'}, {'crop.kind': 'area'}),
    'crop.ends_only': (True, {'crop.kind': 'random'}, {'crop.kind': 'center'}),
    'test_crop.filter': ('bicubic', {'test_crop.kind': 'whole'}, {}),
}


def configured(key, value, changes):
    config = base.get_config()
    config.update({'num_classes': 3, 'channels': 3, 'batch_size': 4, 'schedule': 'steps', 'architecture': 'lenet5'})
    for crop in ('crop', 'test_crop'):
        config[crop].short_side = (36, 48)
    for name, changed in {**changes, key: value}.items():
        folder, _, inner = name.rpartition('.')
        (config[folder] if folder else config)[inner] = changed
    return config


class Small(nn.Module):
    """A network that is fast to build: the rules concern other keys."""

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(3)(images[:, 0, 0])


def effect(config):
    """Numbers of all that a run makes of its config: rates, updates, losses, pixels, averages, views."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 32, 32, config.channels), np.uint8), np.arange(12, dtype=np.int32) % 3
    source = ArraySource(images, labels, ('a', 'b', 'c'), 'made up')
    run = Run(config, splits=(source, source))
    state = jax.eval_shape(run.initial_state)
    controller = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), state.controller)
    found = [run.last_step, [float(run.rate(at, controller)) for at in range(6)]]
    found += [sorted((str(path), leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(state.controller))]
    params, gradients = (
        {'kernel': np.full((2, 3), 0.5), 'bias': np.ones(3)},
        {'kernel': np.eye(2, 3), 'bias': np.arange(3.0)},
    )
    held = run.optimizer.init(params)
    for rate in (0.5, 0.1):
        updates, held = run.optimizer.update(gradients, held, params, rate=rate)
        found += jax.tree.leaves(updates)
    found += [run.loss(np.array([1.0, -2.0, 0.5]), 1)]
    found += [[float(weight(at)) for at in range(6)] for weight in [run._average_weight()] if weight]
    found += [controller_after(config, run)]
    draws = crops.Draws(0, 0, 3)
    for train in (True, False):
        pixels = Pixels(config, None, 12)
        form, preprocess = (pixels.train_form, pixels.train) if train else (pixels.test_form, pixels.test)
        found += [form.crop and form.crop(60, 90, draws)]
        batch = {'image': images[:4], 'epoch': np.zeros(4, np.int32), 'offset': np.zeros((4, 2), np.int32)}
        batch['index'] = np.arange(12, 16) % (12 * config.distortion.versions)
        found += [preprocess(batch)]
    return jax.tree.map(lambda x: x if isinstance(x, str) else np.asarray(x).tolist(), found)


def controller_after(config, run):
    """When the warm-up is over, if every answer is right."""
    controller, over = jax.device_get(jax.eval_shape(run.initial_state).controller), []
    controller = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), controller)
    for step in range(6):
        controller = schedules.controller_after_step(controller, step, 0, 4, run.warmup)
        over += [bool(controller['warmup']['over'])] if 'warmup' in controller else []
    return over


@pytest.mark.parametrize('key', RULES)
def test_a_rule_is_what_a_run_computes(key, monkeypatch):
    monkeypatch.setattr(training.run, 'build_model', lambda config: Small())
    value, read, not_read = RULES[key]
    default = functools.reduce(lambda held, part: held[part], key.split('.'), base.get_config())
    cases = not_read if isinstance(not_read, list) else [not_read]
    for changes, is_read in ((read, True), *((case, False) for case in cases)):
        config, other = configured(key, value, changes), configured(key, default, changes)
        if key == 'crop.short_side':
            other.crop.short_side = (36, 36)
        assert (effect(config) != effect(other)) is is_read, changes
        assert (unread.why(config, key) == '') is is_read


def keys_of(config, prefix=''):
    for key, value in config.items():
        yield from keys_of(value, f'{prefix}{key}.') if hasattr(value, 'items') and len(value) else [prefix + key]


def test_every_key_has_a_rule_or_counts_always():
    """A new key fails here until someone has thought of the values under which nothing reads it."""
    config = base.get_config()
    ruled = {key for key in keys_of(config) if [*unread._rules_of(config, key)] or key in unread._OF_NETWORK}
    ruled |= {'fit', 'workers', 'on_bad_image', 'statistics'}  # where crops or statistics say so
    assert ruled & ALWAYS == set() and ruled | ALWAYS == set(keys_of(config)) - {'architecture_options'}
    assert {rule.by for rule in unread.RULES} <= set(keys_of(config))
    assert {rule.instead for rule in unread.RULES} - {''} <= set(keys_of(config))


REFUSED = [  # (changes, key, words)
    ({}, 'learning_rate', "schedule='steps': learning_rates counts"),
    ({'optimizer': 'adam'}, 'momentum', "optimizer='adam': it is read with optimizer=momentum or nesterov"),
    ({}, 'workers', "dataset='digits': it is read with another dataset"),
    ({}, 'data_dir', "dataset='digits': it is read with another dataset"),
    ({}, 'auxiliary_weight', "architecture='lenet5': it has no auxiliary_heads"),
    ({}, 'recompute_batch_stats', "architecture='lenet5': it has no batch_norm"),
    ({}, 'statistics', "normalize='range': it is read with normalize=mean_image or channel_mean or channel_mean_std"),
    ({'steps': 9}, 'num_epochs', 'steps=9: steps counts'),
]


@pytest.mark.parametrize('changes, key, words', REFUSED)
def test_a_key_without_effect_is_refused_with_the_one_that_counts(changes, key, words):
    with pytest.raises(UserError) as error:
        unread.refuse(digits(**changes), {'seed': '--config.seed=3', key: f'--config.{key}=X'})
    assert str(error.value) == f'--config.{key}=X has no effect with {words}'


def test_in_a_series_a_key_counts_if_a_member_reads_it():
    config = series.create(one=digits(), two=digits(schedule='cosine'))
    unread.refuse(config, {'members.two.learning_rate': 'X', 'order': 'X', 'accumulate': 'X'})
    with pytest.raises(UserError, match="schedule='steps': learning_rates counts"):
        unread.refuse(config, {'members.one.learning_rate': 'X'})


@pytest.mark.parametrize('name', ['googlenet', 'resnet50', 'alexnet:fixed', 'densenet121', 'lenet5', 'vgg_d:jitter'])
def test_what_a_recipe_says_itself_counts(name):
    """Those that a paper's text sets: were a rule too strict, a user could not change them."""
    config = listing.load(name)
    keys = [
        'num_epochs',
        'weight_decay',
        'batch_size',
        'data_dir',
        'crop.filter' if config.crop.kind != 'none' else 'fit',
    ]
    keys += ['learning_rates' if config.schedule == 'steps' else 'learning_rate']
    assert [unread.why(config, key) for key in keys] == [''] * len(keys)
