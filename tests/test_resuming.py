"""Runs that are stopped and resumed, some with another batch size, against NumPy: lengths, rates, averages, events."""

import collections
import json
import re
import signal
import struct

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import digits, evaluate_folder
from tensorboardX.proto.event_pb2 import Event, SessionLog

import architectures
from configs import resnet20
from input_pipeline.example import ArraySource
from runtime.errors import UserError
from training import checkpoints, log, loop, losses, optimizers, step
from training.run import Run

EXAMPLES = 1437  # of the digits


def config_of(**changes):
    return digits(optimizer='momentum', learning_rates=((1, 0.002),), log_every_steps=10, **changes)


def rows(workdir, kind):
    return [row for row in log.read(workdir) if row['kind'] == kind]


def saved(config, workdir, at):
    """The state of a checkpoint."""
    with checkpoints.Checkpoints(workdir / checkpoints.FOLDER, read_only=True) as folder:
        return jax.device_get(folder.restore(Run(config).abstract_state(), at))


# How long a run is


@pytest.mark.parametrize(
    'length',
    [
        {'steps': 100, 'num_epochs': 1.0},
        pytest.param({'num_epochs': 100 * 32 / EXAMPLES}, marks=pytest.mark.slow),
    ],
)
def test_a_run_is_tested_at_its_last_step(tmp_path, capfd, length):
    last = loop.train(config_of(**length), tmp_path)
    tested = rows(tmp_path, 'epoch')
    assert [row['step'] for row in tested] == [45, 90, 100]  # 1,437 images by 32
    assert [row['epoch'] for row in tested] == [1, 2, pytest.approx(100 * 32 / EXAMPLES, abs=1e-4)]
    best = min(reversed(tested), key=lambda row: row['test_top1_error'])
    printed = capfd.readouterr().out
    assert f'test error: {last["test_top1_error"]:.2f}% at step 100 ({last["test_wrong_top1"]} of 360 wrong)' in printed
    assert f'the best was {best["test_top1_error"]:.2f}% at step {best["step"]} (epoch {best["epoch"]:g})' in printed


@pytest.mark.parametrize('tests', [(2,), (1, 2)])
def test_a_signal_during_a_test_leaves_it_to_the_next_run(tmp_path, monkeypatch, tests):
    """The last of a run, or the first of it, twice."""
    count, calls = loop.count_split, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) in tests:
            signal.raise_signal(signal.SIGTERM)
        return count(*arguments)

    monkeypatch.setattr(loop, 'count_split', interrupted)
    config = config_of(steps=60)
    for _ in tests:
        with pytest.raises(loop.Interrupted):
            loop.train(config, tmp_path)
    assert [row['step'] for row in rows(tmp_path, 'epoch')] == ([45] if tests == (2,) else [])
    assert loop.train(config, tmp_path)['step'] == 60
    assert [row['step'] for row in rows(tmp_path, 'epoch')] == [45, 60]
    assert log.read(tmp_path)[-1]['kind'] == 'finished'


# Events


def events(path):
    """The events of one file: TFRecords, each its length, a checksum, an `Event` and a checksum."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from('<Q', data, at)
        event = Event()
        event.ParseFromString(data[at + 12 : at + 12 + length])
        yield event
        at += length + 16


def shown(workdir):
    """(tag, step, value) as TensorBoard shows them: a restart drops the values from its step on."""
    scalars = []
    for path in sorted(workdir.glob('events.out.tfevents.*')):
        for event in events(path):
            if event.session_log.status == SessionLog.START:
                scalars = [scalar for scalar in scalars if scalar[1] < event.step]
            scalars += [(value.tag, event.step, np.float32(value.simple_value)) for value in event.summary.value]
    return collections.Counter(scalars)


@pytest.mark.slow
def test_the_events_of_a_run_stopped_anywhere_are_the_lines_of_its_log(tmp_path):
    config = config_of(num_epochs=2.0)
    for stop in (7, 10, 45, 45, 63, 0, 0):  # in mid-epoch, at a line, at an epoch's end; finished, and run again
        config.stop_at_step = stop
        loop.train(config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / log.NAME).read_text().splitlines()]
    assert [row['step'] for row in lines if row['kind'] == 'epoch'] == [45, 90]
    assert sum(row['kind'] == 'resume' for row in lines) == 6
    expected = collections.Counter(
        (f'{row["kind"]}/{name}', row['step'], np.float32(value))
        for row in lines
        for name, value in {**row, **row['time']}.items()
        if isinstance(value, (int, float)) and name != 'step'
    )
    assert shown(tmp_path) == expected and max(expected.values()) == 1


# Another batch size


@pytest.mark.slow
def test_a_polynomial_rate_counts_the_examples_of_both_batch_sizes(tmp_path):
    config = config_of(steps=60, schedule='polynomial', learning_rate=0.002, decay_power=0.7, stop_at_step=23)
    loop.train(config, tmp_path)
    config.update({'batch_size': 16, 'stop_at_step': 0})
    loop.train(config, tmp_path)
    for row in rows(tmp_path, 'train'):
        before = row['step'] - 1  # the step whose rate the line has
        if row['step'] <= 23:
            over = before * 32 / (60 * 32)
        else:
            over = (23 * 32 + (before - 23) * 16) / (23 * 32 + (60 - 23) * 16)
        assert row['learning_rate'] == pytest.approx(0.002 * (1 - over) ** 0.7, rel=1e-5)


def test_a_uniform_average_that_has_begun_continues(tmp_path):
    config = config_of(num_epochs=2.0, average='uniform', stop_at_step=51)  # 90 steps, averaged from 45 on
    loop.train(config, tmp_path)
    before = saved(config, tmp_path, 51)
    config.update({'batch_size': 16, 'stop_at_step': 52})
    loop.train(config, tmp_path)
    after = saved(config, tmp_path, 52)
    number = 52 - 45  # of iterates in the mean
    expected = jax.tree.map(lambda old, new: old + (new - old) / number, before.average['params'], after.params)
    chex.assert_trees_all_close(after.average['params'], expected, rtol=1e-6, atol=1e-8)
    moved = jax.tree.map(lambda old, new: float(np.abs(new - old).max()), before.params, after.params)
    assert max(jax.tree.leaves(moved)) > 1e-6


def test_a_uniform_average_that_has_not_begun_begins_at_its_part_of_the_longer_run():
    config = config_of(num_epochs=2.0, average='uniform', batch_size=16)
    run = Run(config, start=(30, 30 * 32), average_start=45)
    steps = 30 + int(np.ceil((2 * EXAMPLES - 30 * 32) / 16))
    assert run.last_step == steps and run.average_start == round(steps / 2)


# Parameters in bfloat16


@pytest.mark.parametrize('accumulate', [1, 4])
def test_averages_and_accumulators_are_float32_beside_parameters_in_bfloat16(accumulate):
    model, optimizer = architectures.create('lenet5', param_dtype='bfloat16'), optimizers.create('adam')
    rng = np.random.default_rng(0)
    batch = {
        'image': rng.normal(size=(16, 32, 32, 1)).astype(np.float32), 'label': np.arange(16, dtype=np.int32) % 10,
        'mask': np.ones(16, bool), 'bad': np.zeros(16, bool), 'index': np.arange(16, dtype=np.int32),
    }  # fmt: skip
    current = jax.jit(lambda: step.create_state(model, optimizer, (32, 32, 1), 0, averaged=True))()
    decay, iterates = 0.9, []

    @jax.jit
    def one(current):
        return step.train_step(
            current, batch, model=model, loss=losses.cross_entropy, optimizer=optimizer, seed=0, accumulate=accumulate,
            preprocess=lambda batch: batch['image'], rate=lambda step, controller: 0.001,
            average_weight=step.ema_weight(decay),
        )  # fmt: skip

    for _ in range(8):
        current = one(current)
        iterates.append(jax.tree.map(lambda x: np.asarray(x, np.float64), current.params))
    assert {x.dtype for x in jax.tree.leaves(current.params)} == {jnp.dtype('bfloat16')}
    accumulated = [x for x in jax.tree.leaves(current.opt_state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {x.dtype for x in (*accumulated, *jax.tree.leaves(current.average))} == {jnp.dtype('float32')}
    weights = decay ** np.arange(len(iterates))[::-1]
    mean = jax.tree.map(lambda *xs: np.tensordot(weights / weights.sum(), np.stack(xs), 1), *iterates)
    chex.assert_trees_all_close(jax.tree.map(np.float64, current.average['params']), mean, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('average', [pytest.param('ema', marks=pytest.mark.slow), 'uniform'])
def test_an_average_of_parameters_in_bfloat16_is_tested_saved_and_evaluated(tmp_path, average):
    config = config_of(num_epochs=2.0, average=average, average_decay=0.9)
    config.architecture_options.param_dtype = 'bfloat16'
    last = loop.train(config, tmp_path)
    assert last['test_top1_error'] < 75  # it moves: at the start 90 are wrong
    assert evaluate_folder(config, tmp_path, 'latest')['wrong_top1'] == last['test_wrong_top1']


# Batch norm over a single value


@pytest.mark.parametrize(
    'changes', [{'batch_size': 1}, {'accumulate': 8}, {'architecture_options.group_size': 1}], ids=str
)
def test_batch_norm_over_a_single_value_names_its_layer(changes):
    config = resnet20.get_config('')
    config.update({'batch_size': 8, 'image_size': 4})  # the last maps are 1x1
    config.architecture_options.update({'depth': 8, 'group_size': 0})
    config.update_from_flattened_dict(changes)
    images = np.zeros((8, 4, 4, 3), np.uint8)
    splits = [ArraySource(images, np.zeros(8), map(str, range(10)), name) for name in ('train', 'test')]
    with pytest.raises(UserError, match=r'^stage3/.*: batch norm over a single value') as error:
        Run(config, splits=splits)
    assert re.search('map is 1x1 and 1 image is normalized', str(error.value))


def test_a_run_stopped_by_stop_at_step_says_how_to_resume(linear, tmp_path, capfd):
    config = digits(architecture='linear', stop_at_step=2)
    for said in ('stopped by stop_at_step at step 2', 'nothing to do: stop_at_step=2 is reached; raise it to resume'):
        loop.train(config, tmp_path)
        assert said in capfd.readouterr().out
    loop.train(digits(architecture='linear', stop_at_step=3), tmp_path)
    assert 'resuming at step 2' in capfd.readouterr().out


# Damaged checkpoints


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, capsys):
    config = config_of(num_epochs=1.0, checkpoint_every_steps=15)
    loop.train(config, tmp_path / 'whole')
    expected = saved(config, tmp_path / 'whole', 45)
    config.stop_at_step = 30
    loop.train(config, tmp_path / 'run')
    model = tmp_path / 'run' / checkpoints.FOLDER / '30/model'
    path = max((path for path in model.rglob('*') if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError, match='checkpoints/30 .*Pass --step=.*to resume from step 15'):
        evaluate_folder(config, tmp_path / 'run', 'latest')
    config.stop_at_step = 0
    capsys.readouterr()
    loop.train(config, tmp_path / 'run')
    said = capsys.readouterr()
    assert said.err.count('\n') == 1 and 'checkpoints/30.damaged; resuming from step 15' in said.err
    assert 'resuming at step 15' in said.out
    chex.assert_trees_all_equal(saved(config, tmp_path / 'run', 45), expected)
    assert [row['step'] for row in rows(tmp_path / 'run', 'train')] == [10, 20, 30, 40, 45]
