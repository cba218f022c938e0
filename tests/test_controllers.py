"""The plateau rule on scripted error curves, and the warm-up by training error."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import digits
from ml_collections import ConfigDict

from configs import base
from runtime.errors import UserError
from training import loop, schedules, workdir
from training.log import read


def plateau(**changes):
    rule = base.get_config().plateau
    rule.update(changes)
    return rule


def drops_of(errors, rule, stop_and_go=None):
    """The epochs, from 1, at which the rate drops; at `stop_and_go` the controller goes through a checkpoint."""
    controller, found = schedules.create_controller(rule), []
    for epoch, error in enumerate(errors, start=1):
        controller, dropped = schedules.controller_after_epoch(controller, error, rule)
        if dropped:
            found.append(epoch)
        if epoch == stop_and_go:
            on_device = jax.tree.map(jnp.asarray, controller)
            controller = jax.tree.map(np.array, jax.device_get(on_device))
    return found, controller


def test_the_rate_drops_when_the_error_has_stopped_improving():
    # Falls by 2 points an epoch to 40 at epoch 10, then stays: at epoch 15 the last five have gained nothing.
    falling = [60.0 - 2 * epoch for epoch in range(1, 11)]
    found, _ = drops_of(falling + [40.0] * 30, plateau())
    assert found[0] == 15
    # A drop, five epochs of peace, and the next is possible at the sixth.
    assert found == [15, 21, 27, 33, 39]


def test_a_gain_below_the_threshold_is_none_and_one_above_it_is():
    slow = [50.0 - 0.019 * epoch for epoch in range(30)]  # 0.095 points in five epochs
    assert drops_of(slow, plateau())[0][0] == 6
    quick = [50.0 - 0.021 * epoch for epoch in range(30)]
    assert drops_of(quick, plateau())[0] == []
    # A single good epoch counts for five: noise does not hide a gain.
    noisy = [50.0, 51.0, 52.0, 51.0, 49.0, 51.0, 52.0, 51.0, 50.5, 48.0, 51.0]
    assert drops_of(noisy, plateau())[0] == []


def test_the_run_ends_at_the_plateau_after_the_last_drop():
    rule = plateau(drops=3, patience=2)
    errors = [50.0] * 40
    epochs, _ = drops_of(errors, rule)
    controller = schedules.create_controller(rule)
    for epoch, error in enumerate(errors, start=1):
        controller, _ = schedules.controller_after_epoch(controller, error, rule)
        assert schedules.plateaus_are_over(controller, rule) == (epoch >= epochs[3])
    assert not schedules.plateaus_are_over({}, rule)


@pytest.mark.parametrize('epoch', range(10, 22))
def test_a_resume_in_the_middle_of_patience_changes_nothing(epoch):
    errors = [60.0 - 2 * number for number in range(1, 11)] + [40.0, 40.3, 39.95, 40.2] * 6
    straight, end = drops_of(errors, plateau())
    resumed, again = drops_of(errors, plateau(), stop_and_go=epoch)
    assert straight == resumed and len(straight) >= 2
    chex.assert_trees_all_equal(end, again)


def test_each_drop_divides_the_rate_by_ten():
    rule = plateau()
    controller = schedules.create_controller(rule)
    for drops, expected in enumerate((0.01, 0.001, 0.0001, 0.00001)):
        controller['plateau']['drops'] = np.int32(drops)
        assert float(schedules.controlled_rate(controller, jnp.float32(0.01), rule, None)) == pytest.approx(
            expected, rel=1e-5
        )


def test_the_warm_up_ends_when_the_training_error_is_below_80_per_cent():
    # He et al. 2015, section 4.2: 0.01 until the training error is below 80%, then 0.1.
    warmup = ConfigDict({'learning_rate': 0.01, 'until_error': 80.0, 'steps': 100})
    step_once = jax.jit(lambda c, at, wrong: schedules.controller_after_step(c, at, wrong, 128, warmup))
    controller, rates = schedules.create_controller(None, warmup), []
    for at in range(600):
        rates.append(float(schedules.controlled_rate(controller, jnp.float32(0.1), None, warmup)))
        wrong = 115 if at < 330 else 95  # 89.8%, then 74.2%; of steps 300 to 399 it is 78.9
        controller = step_once(controller, at, wrong)
    np.testing.assert_allclose(rates[:400], 0.01, rtol=1e-6)
    np.testing.assert_allclose(rates[400:], 0.1, rtol=1e-6)


def test_without_a_controller_the_schedule_alone_counts():
    assert schedules.create_controller() == {}
    assert float(schedules.controlled_rate({}, 0.3, None, None)) == 0.3
    assert schedules.controller_after_epoch({}, 1.0, plateau()) == ({}, False)


def test_wrong_values_are_reported():
    for changes in ({'patience': 0}, {'factor': 1.0}, {'drops': -1}):
        with pytest.raises(UserError, match='plateau needs patience'):
            schedules.create_controller(plateau(**changes))
    with pytest.raises(UserError, match='warmup needs steps'):
        schedules.create_controller(None, ConfigDict({'learning_rate': 0.1, 'until_error': 0.0, 'steps': 1}))


def test_a_run_that_its_plateaus_ended_is_finished(tmp_path, capfd, linear):
    config = digits(architecture='linear')
    config.update({'schedule': 'plateau', 'learning_rate': 0.02, 'num_epochs': 30.0})
    config.plateau.update({'patience': 1, 'threshold': 100.0, 'drops': 1})  # no gain is enough
    last = loop.train(config, tmp_path)
    assert last['epoch'] == 4  # epoch 2 drops, 3 waits, 4 ends the run
    rates = [row['learning_rate'] for row in read(tmp_path) if row['kind'] == 'epoch']
    np.testing.assert_allclose(rates, [0.02, 0.02, 0.002, 0.002], rtol=1e-5)
    decisions = [row['decision'] for row in read(tmp_path) if row['kind'] == 'decision']
    assert [decision.partition(': ')[2] for decision in decisions] == ['drop 1 of 1', 'the run ends']
    assert workdir.is_finished(tmp_path)

    capfd.readouterr()
    assert loop.train(config, tmp_path) == last
    assert 'nothing to do: this run is finished' in capfd.readouterr().out
    assert sum(row['kind'] == 'finished' for row in read(tmp_path)) == 1


@pytest.mark.slow
def test_a_run_continues_in_the_middle_of_its_patience(tmp_path, linear):
    config = digits(architecture='linear')
    config.update({'schedule': 'plateau', 'learning_rate': 0.02, 'num_epochs': 7.0})
    config.plateau.update({'patience': 2, 'threshold': 100.0})
    config.warmup.update({'learning_rate': 0.01, 'steps': 10})
    loop.train(config, tmp_path / 'straight')
    config.stop_at_step = 160  # in the fourth epoch: the rate dropped after the third, and the rule waits
    loop.train(config, tmp_path / 'halted')
    config.stop_at_step = 0
    loop.train(config, tmp_path / 'halted')

    def told(workdir):  # the training loss is summed in other parts
        rows = [row for row in read(workdir) if row['kind'] in ('epoch', 'decision')]
        return [{key: value for key, value in row.items() if key not in ('time', 'train_loss')} for row in rows]

    assert told(tmp_path / 'straight') == told(tmp_path / 'halted')
    assert [row['step'] for row in told(tmp_path / 'straight') if row['kind'] == 'decision'][1:] == [135, 270]
