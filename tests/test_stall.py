"""Runs that do not learn give one warning, with the cause that their paper names."""

import numpy as np
import pytest

from configs import lenet5_digits
from training import loop, stall
from training.log import read


def rows_of(losses, every=100):
    return [{'kind': 'train', 'step': every * n, 'loss': loss} for n, loss in enumerate(losses, start=1)]


def test_a_loss_at_chance():
    at_chance = rows_of([2.31, 2.3026, 2.30, 2.301, 2.303])
    assert stall.symptom(at_chance, 500, 10) == (
        'the loss has stayed at ln(10) = 2.303, the loss of a guess, for 500 steps'
    )
    assert stall.symptom(at_chance[:4], 500, 10) is None  # too early
    assert stall.symptom(rows_of([2.31, 2.30, 2.30, 2.30, 2.2]), 500, 10) is None
    assert stall.symptom(at_chance, 500, 1000) is not None  # it does not fall, either
    later = rows_of([2.0, 1.5, 2.303, 2.303, 2.302, 2.303])  # a network that died
    assert 'the loss of a guess' in stall.symptom(later, 400, 10)


def test_a_plateau_at_the_start():
    assert 'has not fallen from its first 6.950' in stall.symptom(rows_of([6.95, 6.94, 6.93]), 300, 10)
    assert stall.symptom(rows_of([6.95, 6.5, 6.9]), 300, 10) is None
    assert stall.symptom(rows_of([9.0, 6.95, 6.95, 6.95]), 300, 10) is None  # a plateau later is the schedule's affair


def test_the_first_look_is_taken_once():
    rows = rows_of([2.0] * 12)
    assert [stall.first_look(rows[:n], 500) for n in range(13)] == [n == 5 for n in range(13)]


@pytest.mark.parametrize(
    'architecture, says',
    [
        ('alexnet', 'biases of conv2, conv4, conv5 and the hidden fully connected layers to 1'),
        ('vgg_d', 'train A first'),
        ('resnet110', 'start with 0.01 until the training error is below 80%'),
        ('plain56', 'as He et al. 2015 found'),
        ('densenet121', 'option.initializer=he_fan_out'),
    ],
)
def test_the_warning_names_the_known_cause(architecture, says):
    warning = stall.warning('the loss stays', ['conv4', 'conv5'], architecture)
    assert warning.startswith('the loss stays; every activation of conv4, conv5 is 0, so no gradient passes. ')
    assert says in warning and '\n' not in warning


def config_of(**changes):
    config = lenet5_digits.get_config()
    config.update({'num_epochs': 2.0, 'learning_rates': ((2, 1e-9),), 'stall_steps': 90, 'log_every_steps': 45})
    config.update(changes)
    return config


def test_a_run_that_does_not_learn_is_warned_of_once(tmp_path, capfd):
    loop.train(config_of(), tmp_path / 'run')
    warnings = [row for row in read(tmp_path / 'run') if row['kind'] == 'warning']
    assert len(warnings) == 1 and warnings[0]['step'] == 90
    assert capfd.readouterr().out.count('warning: step 90') == 1


@pytest.mark.slow
def test_dead_layers_are_named(tmp_path):
    config = config_of()
    config.architecture_options.initializer = 'gaussian_1e-30'  # biases start at 0
    loop.train(config, tmp_path / 'run')
    (warning,) = (row for row in read(tmp_path / 'run') if row['kind'] == 'warning')
    assert 'the loss of a guess' in warning['warning']
    assert 'every activation of' in warning['warning']


def test_which_layers_are_dead():
    assert stall.dead_layers({'conv1': np.True_, 'conv2': np.False_}) == ['conv2']
