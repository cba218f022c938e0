"""The training step's options: parts of a batch, groups of batch norm, averages, smoothed labels, bfloat16."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import digits, evaluate_folder

import architectures
from configs import base, lenet5_digits
from input_pipeline import loader
from input_pipeline.pixels import scale_range
from runtime import mesh
from runtime.errors import UserError
from training import checkpoints, loop, losses, optimizers, step
from training.log import read
from training.run import Run, check

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (64, 32, 32, 1), np.uint8)
LABELS = np.arange(64, dtype=np.int32) % 10
OPTIMIZER = optimizers.create('momentum', momentum=0.9)


def preprocess(batch):
    return scale_range(batch['image'], -0.1, 1.175)


def batch_of(count=32, mask=None):
    index = np.arange(count, dtype=np.int32)
    mask = np.ones(count, bool) if mask is None else mask
    return loader.gather(IMAGES, LABELS, index, np.zeros_like(index)) | {'mask': mask}


def stepping(model, **options):
    """(the state before the first step, the jitted step)."""
    values = {
        **{'model': model, 'loss': losses.cross_entropy, 'optimizer': OPTIMIZER, 'preprocess': preprocess, 'seed': 0},
        **{'rate': lambda step, controller: 0.01, **options},
    }
    averaged = options.get('average_weight') is not None
    made = functools.partial(step.create_state, model, values['optimizer'], (32, 32, 1), 0, averaged=averaged)
    return jax.jit(made)(), jax.jit(functools.partial(step.train_step, **values))


# Parts of a batch


@pytest.mark.parametrize('accumulate', [4, pytest.param(32, marks=pytest.mark.slow)])
def test_without_batch_norm_a_batch_in_parts_is_the_batch(accumulate):
    model, batch = architectures.create('lenet5'), batch_of(mask=np.arange(32) != 5)
    start, whole = stepping(model)
    _, parts = stepping(model, accumulate=accumulate)
    expected, found = whole(start, batch), parts(start, batch)
    chex.assert_trees_all_close(found.params, expected.params, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.window['loss'], expected.window['loss'], rtol=1e-5)
    for key in ('wrong', 'count', 'skipped'):
        assert int(found.window[key]) == int(expected.window[key])


def test_parts_that_are_multiples_of_the_group_size_equal_the_batch():
    # The gradient is the same; the moving averages move once a part.
    model, batch = architectures.create('lenet5', batch_norm=True, group_size=8), batch_of()
    start, whole = stepping(model)
    _, parts = stepping(model, accumulate=4)
    expected, found = whole(start, batch), parts(start, batch)
    chex.assert_trees_all_close(found.params, expected.params, rtol=1e-3, atol=1e-5)
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.any(a != b)), found.batch_stats, expected.batch_stats))
    assert any(moved)


def test_parts_stay_on_their_devices(eight_devices):
    model, batch = architectures.create('lenet5'), batch_of()
    start, one = stepping(model, accumulate=2)
    grid = mesh.create(8)
    assert grid.size == 8
    _, many = stepping(model, accumulate=2, num_devices=8)
    expected = one(start, batch)
    found = many(jax.device_put(start, mesh.replicated(grid)), jax.device_put(batch, mesh.batch_sharding(grid)))
    chex.assert_trees_all_close(found.params, expected.params, rtol=1e-4, atol=1e-6)


# Groups of batch norm


@pytest.mark.parametrize('devices', [pytest.param(2, marks=pytest.mark.slow), 8])
def test_groups_of_batch_norm_do_not_depend_on_the_devices(devices, eight_devices):
    # He et al. 2015: 8 GPUs of 32 images. Here groups of 16, on devices that hold two of them or half of one.
    model, batch = architectures.create('lenet5', batch_norm=True, group_size=16), batch_of(64)
    start, one = stepping(model)
    expected = one(start, batch)
    grid = mesh.create(64, jax.devices()[:devices])
    found = one(jax.device_put(start, mesh.replicated(grid)), jax.device_put(batch, mesh.batch_sharding(grid)))
    chex.assert_trees_all_close(found.params, expected.params, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(found.batch_stats, expected.batch_stats, rtol=1e-4, atol=1e-6)
    whole = stepping(architectures.create('lenet5', batch_norm=True))[1](start, batch)
    apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), whole.params, expected.params)
    assert max(jax.tree.leaves(apart)) > 3e-4  # groups matter


# Averages


def follow(average_weight, steps=20):
    """Each step's parameters, and the average after the last."""
    current, one = stepping(architectures.create('lenet5'), average_weight=average_weight)
    seen = []
    for _ in range(steps):
        current = one(current, batch_of())
        seen.append(np.asarray(current.params['C1']['kernel'] if 'C1' in current.params else leaf(current.params)))
    return np.stack(seen), current


def leaf(params):
    return jax.tree.leaves(params)[1]


def kept(current):
    params = current.average['params']
    return params['C1']['kernel'] if 'C1' in params else leaf(params)


def test_an_exponential_average_is_corrected_for_its_start():
    decay = 0.9
    seen, current = follow(step.ema_weight(decay))
    weights = decay ** np.arange(len(seen))[::-1]
    expected = np.tensordot(weights / weights.sum(), seen, 1)
    np.testing.assert_allclose(kept(current), expected, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_equal(current.deployed, current.average)
    first, one = stepping(architectures.create('lenet5'), average_weight=step.ema_weight(0.9999))
    first = one(first, batch_of())
    chex.assert_trees_all_close(first.average['params'], first.params, rtol=1e-6, atol=1e-8)


def test_polyaks_average_is_the_mean_from_its_start_on():
    seen, current = follow(step.uniform_weight(8))
    np.testing.assert_allclose(kept(current), seen[8:].mean(0), rtol=1e-4, atol=1e-6)


def test_the_average_is_tested_and_saved(tmp_path, linear):
    config = digits(architecture='linear')
    config.update({'num_epochs': 2.0, 'learning_rates': ((2, 0.02),), 'average': 'ema', 'average_decay': 0.95})
    last = loop.train(config, tmp_path)
    run = Run(config)
    with checkpoints.Checkpoints(tmp_path / checkpoints.FOLDER, read_only=True) as there:
        whole = there.restore(run.abstract_state(), 90)
        model = there.restore_model(run.abstract_state().deployed, 90)
    chex.assert_trees_all_equal(model, whole.average)
    apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), whole.average, whole.variables)
    assert max(jax.tree.leaves(apart)) > 1e-4
    assert evaluate_folder(config, tmp_path, 'latest')['wrong_top1'] == last['test_wrong_top1']


# Batch norm's statistics after training


class _Norm(architectures.layers.Network):
    """Batch norm of the pixels, and a classifier of their mean."""

    num_classes: int = 10
    batch_norm: bool = True

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        return net.logits('fc', net.average('pool', net.norm('bn', images), 1, dense), dense)


def test_statistics_are_the_means_over_batches():
    model = _Norm()
    variables = dict(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 1))))
    found = step.measure_batch_stats(variables, batch_of(), model=model, preprocess=preprocess, seed=0)['bn']
    pixels = np.asarray(preprocess(batch_of()), np.float64)
    np.testing.assert_allclose(found['mean'], [pixels.mean()], rtol=1e-4)
    np.testing.assert_allclose(found['var'], [pixels.var(ddof=1)], rtol=1e-4)


def test_a_run_ends_with_statistics_measured_again(tmp_path, linear):
    config = digits(architecture='linear')
    config.update({'num_epochs': 2.0, 'learning_rates': ((2, 0.02),), 'recompute_batch_stats': 3})
    config.architecture_options.batch_norm = True
    last = loop.train(config, tmp_path)
    run = Run(config)
    with checkpoints.Checkpoints(tmp_path / checkpoints.FOLDER, read_only=True) as there:
        saved = there.restore(run.abstract_state(), 90)
    anew = run.programs().batch_stats(saved.variables)
    chex.assert_trees_all_close(saved.batch_stats, anew, rtol=1e-4, atol=1e-6)
    assert last['moving_test_num_examples'] == last['test_num_examples'] == 360
    assert last['test_loss'] != last['moving_test_loss']
    first = next(row for row in read(tmp_path) if row['kind'] == 'epoch')
    assert 'moving_test_loss' not in first


# Losses and rates


def test_smoothed_labels():
    logits, classes, part = RNG.normal(size=7).astype(np.float32), 7, 0.1
    target = np.full(classes, part / classes)
    target[3] += 1 - part
    expected = -(target * np.log(np.exp(logits) / np.exp(logits).sum())).sum()
    assert float(losses.create('cross_entropy', smoothing=part)(logits, 3)) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UserError, match='label_smoothing requires cross_entropy'):
        losses.create('penalty', smoothing=0.1)


def test_the_rates_follow_the_batch_and_the_log_says_so(tmp_path, capfd, linear):
    config = digits(architecture='linear')
    config.update({'num_epochs': 1.0, 'learning_rates': ((1, 0.02),), 'batch_size': 8, 'reference_batch_size': 32})
    config.scale_lr = True
    last = loop.train(config, tmp_path)
    assert last['learning_rate'] == pytest.approx(0.005)
    assert "learning rates: multiplied by 0.25, for a batch of 8 instead of the recipe's 32" in capfd.readouterr().out


@pytest.mark.parametrize(
    'changes, says',
    [
        ({'num_epochs': 10.0}, 'last drop of the rate is after 27 epochs, and the run has 10'),
        ({'steps': 100}, 'and the run has 2.2'),
        ({'accumulate': 5}, 'accumulate=5 does not divide batch_size=32'),
        ({'accumulate': 8}, 'use a multiple of 64'),
        ({'batch_size': 12}, 'cannot be split over 8 devices; use a multiple of 8'),
        ({'average': 'polyak'}, 'average must be one of none, ema, uniform'),
        ({'dtype': 'float16'}, 'dtype must be one of float32, bfloat16'),
        ({'label_smoothing': 1.0}, 'label_smoothing must be at least 0 and below 1'),
        ({'schedule': 'plateu'}, 'did you mean plateau'),
    ],
)
def test_wrong_values_are_reported(changes, says, eight_devices):
    config = lenet5_digits.get_config()
    config.update(changes)
    with pytest.raises(UserError, match=says):
        check(config)
        Run(config)


def test_ranges_are_of_keys_that_there_are():
    config = base.get_config()
    check(config)  # each has its default in its range
    for words, keys in base.RANGES.items():
        for key in keys:
            *folder, name = key.split('.')
            changed = config.copy_and_resolve_references()
            part = changed[folder[0]] if folder else changed
            part[name] = type(part[name])(-1)
            with pytest.raises(UserError, match=f'^{key} must be {words}, not -1'):
                check(changed)


@pytest.mark.parametrize(
    'changes, says',
    [
        ({'statistics': '/nowhere.npz', 'normalize': 'channel_mean'}, 'no statistics in /nowhere.npz'),
        ({'test_crop': {'kind': 'center', 'short_side': (16, 16)}}, 'short_side must be'),
    ],
)
def test_what_is_refused_leaves_no_folder(tmp_path, changes, says):
    config = digits()
    config.update(changes)
    with pytest.raises(UserError, match=says):
        loop.train(config, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('streamed', [False, True])
def test_batches_end_where_the_loop_stops(streamed):
    config = digits(steps=9, steps_per_dispatch=4, learning_rates=((1, 0.02),))
    if streamed:
        config.crop.update({'kind': 'center', 'short_side': (32, 32)})
    run = Run(config)
    calls = [(at, *batch) for at, batch in run.batches(2, lambda at: at + 1 if at == 6 else 9)]
    assert [call[0] for call in calls] == (list(range(3, 10)) if streamed else [6, 7, 9])
    if streamed:
        numbers = np.concatenate([np.asarray(batch['index']) for _, batch in calls])
    else:
        numbers = np.concatenate([np.asarray(order)[0, : 32 * count] for _, _, _, order, count in calls])
    np.testing.assert_array_equal(numbers, run.order(2, 9)[0])


def test_a_batch_of_broken_groups_is_reported(eight_devices):
    config = lenet5_digits.get_config()
    config.architecture_options.update({'batch_norm': True, 'group_size': 24})
    with pytest.raises(UserError, match='batch norm has groups of 24 images, and a step processes 32'):
        Run(config)


# bfloat16


@pytest.mark.slow
def test_the_loss_in_bfloat16_follows_that_in_float32(tmp_path):
    curves = {}
    for dtype in ('float32', 'bfloat16'):
        config = lenet5_digits.get_config()
        config.update({'num_epochs': 4.0, 'learning_rates': ((4, 0.004),), 'dtype': dtype})
        config.architecture_options.batch_norm = True
        loop.train(config, tmp_path / dtype)
        rows = [row for row in read(tmp_path / dtype) if row['kind'] == 'epoch']
        curves[dtype] = np.array([[row['train_loss'], row['test_loss']] for row in rows])
        run = Run(config)
        for tree in (run.abstract_state().params, run.abstract_state().batch_stats):
            assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(tree))
    full, half = curves['float32'], curves['bfloat16']
    assert full[0, 0] > 3 * full[-1, 0]
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(half, full, rtol=0.05)


# Fine-tuning


def test_layers_that_are_not_trained_stay_as_they_are():
    model, batch = architectures.create('lenet5'), batch_of()
    decaying = optimizers.create('momentum', momentum=0.9, weight_decay=0.1)
    start, train = stepping(model, optimizer=optimizers.only(decaying, ('fc2', 'fc3')))
    after = train(train(start, batch), batch)
    for layer, before in start.params.items():
        same = [np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (before, after.params[layer])), strict=True)]
        assert all(same) if layer not in ('fc2', 'fc3') else not any(same), layer


def test_the_layers_that_are_trained_go_as_they_would_alone():
    """The first step of the last layer does not know whether the others move."""
    model, batch = architectures.create('lenet5'), batch_of()
    start, every = stepping(model)
    _, one = stepping(model, optimizer=optimizers.only(OPTIMIZER, ('fc3',)))
    chex.assert_trees_all_close(one(start, batch).params['fc3'], every(start, batch).params['fc3'], rtol=1e-6)


def test_a_layer_to_train_that_is_not_there_is_reported():
    with pytest.raises(UserError, match="trained_layers: this network has no layer 'fc9', did you mean fc"):
        optimizers.only(OPTIMIZER, ('fc9',)).init(stepping(architectures.create('lenet5'))[0].params)


def test_frozen_batch_norm_trains_by_its_running_statistics():
    options = {'depth': 8}
    plain, frozen = (architectures.create('resnet20', **options, frozen_norm=value) for value in (False, True))
    images = jnp.asarray(RNG.normal(size=(4, 32, 32, 3)), jnp.float32)
    variables = jax.jit(plain.init)(jax.random.key(0), images)
    statistics = jax.tree.map(lambda x: x + 0.3, variables['batch_stats'])
    variables = {**variables, 'batch_stats': statistics}
    plainly, training, frozenly = (
        jax.jit(functools.partial(model.apply, **options))
        for model, options in (
            (plain, {}),
            (plain, {'train': True, 'mutable': ['batch_stats']}),
            (frozen, {'train': True, 'mutable': ['batch_stats']}),
        )
    )
    logits, updated = frozenly(variables, images)
    chex.assert_trees_all_equal(updated['batch_stats'], statistics)
    chex.assert_trees_all_close(logits, plainly(variables, images), rtol=1e-5, atol=1e-5)
    moved = training(variables, images)[1]['batch_stats']
    assert not np.allclose(moved['conv1_bn']['mean'], statistics['conv1_bn']['mean'])
