"""Learning rates: schedules, which depend on the step alone, and controllers, which react to the errors of the run.

A schedule is a traceable function step -> rate. A controller implements the papers' plateau rule or ResNet-110's
warm-up. It is a tree of a few numbers in the training state, so every checkpoint has it; its functions are pure.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np

from runtime.errors import UserError, nearest


def steps_at(epochs, num_examples, batch_size, start=(0, 0)):
    """Return the step at which `epochs` passes over `num_examples` examples are complete.

    `start` is (step, examples seen by then); from there on batches have `batch_size` examples.
    """
    step, examples_seen = start
    return step + math.ceil((round(epochs * num_examples) - examples_seen) / batch_size)


def examples_at(step, batch_size, start=(0, 0)):
    """Return the number of examples seen before a step; the inverse of `steps_at`, traceable."""
    return start[1] + (step - start[0]) * batch_size


def steps_of_rates(rates, steps_at, scale=1.0):
    """Return a step schedule from (epochs, rate) pairs, as in the papers' tables; the last rate has no end.

    Args:
      rates: the pairs.
      steps_at: epochs -> the step at which they end.
      scale: factor of all rates.

    Returns:
      step -> rate, traceable.

    Raises:
      UserError: no pairs, or lengths and rates that are not positive.
    """
    pairs = [pair for pair in rates if isinstance(pair, (tuple, list)) and len(pair) == 2]
    if not rates or len(pairs) < len(rates) or any(epochs <= 0 or rate <= 0 for epochs, rate in pairs):
        raise UserError(f'learning_rates must be pairs of (epochs, rate), all above 0, not {rates!r}')
    ends, epoch = [], 0
    for epochs, _ in rates[:-1]:
        epoch += epochs
        ends.append(steps_at(epoch))
    ends, values = jnp.array(ends, jnp.int32), jnp.array([rate * scale for _, rate in rates], jnp.float32)
    return lambda step: values[jnp.sum(step >= ends)]


def decay_every(rate, factor, epochs, num_examples, examples_at):
    """Multiply the rate by `factor` every `epochs`: GoogLeNet's 0.96 every 8 (Szegedy et al. 2014, section 6)."""
    interval = max(1, round(epochs * num_examples))
    return lambda step: rate * factor ** (examples_at(step) // interval)


def polynomial(rate, power, num_epochs, num_examples, examples_at):
    """rate * (1 - t)^power, t the fraction of the run completed; Caffe's quick GoogLeNet has power 0.5."""
    total = round(num_epochs * num_examples)
    return lambda step: rate * jnp.maximum(0, 1 - examples_at(step) / total) ** power


def cosine(rate, num_epochs, num_examples, examples_at):
    """rate * (1 + cos(pi t)) / 2, t the fraction of the run completed (DenseNet's technical report)."""
    total = round(num_epochs * num_examples)
    return lambda step: rate * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(1, examples_at(step) / total)))


def inverse(rate, power, epochs, num_examples, examples_at):
    """rate * (1 + e / epochs)^-power after e epochs: the policy `inv` of Caffe's LeNet."""
    return lambda step: rate * (1 + examples_at(step) / (epochs * num_examples)) ** -power


NAMES = ('steps', 'every', 'polynomial', 'cosine', 'inverse', 'plateau')


def create(name, rates, rate, factor, every, power, num_epochs, num_examples, batch_size, start=(0, 0), scale=1.0):
    """Return the schedule of that name, step -> rate.

    Args:
      name: 'steps' (`steps_of_rates`), 'every' (`decay_every`), 'polynomial', 'cosine', 'inverse', or 'plateau', which
        is constant here: the controller drops the rate (`controller_after_epoch`).
      rates: for 'steps', (epochs, rate) pairs.
      rate: for the others, the initial rate.
      factor: for 'every'.
      every: for 'every' and 'inverse', in epochs.
      power: for 'polynomial' and 'inverse'.
      num_epochs: length of the run.
      num_examples: length of an epoch.
      batch_size, start: see `steps_at`.
      scale: factor of all rates.

    Raises:
      UserError: an unknown name, a value out of range, or a drop after the end of the run.
    """
    if name not in NAMES:
        raise UserError(f'no schedule {name!r}{nearest(name, NAMES)} There are: {", ".join(NAMES)}.')
    seen_at = functools.partial(examples_at, batch_size=batch_size, start=start)
    if name == 'steps':
        ends = functools.partial(steps_at, num_examples=num_examples, batch_size=batch_size, start=start)
        schedule = steps_of_rates(rates, ends, scale)
        last_drop = sum(epochs for epochs, _ in rates[:-1])
        if last_drop >= num_epochs:
            raise UserError(
                f'the last drop of the rate is after {last_drop:g} epochs, and the run has {num_epochs:g}: shorten '
                f'the recipe in proportion with --config configs/NAME.py:epochs={num_epochs:g}, or set '
                '--config.learning_rates too; to run only the start of a long run, set --config.stop_at_step'
            )
        return schedule
    values = {'learning_rate': rate, 'decay_every': every, 'decay_factor': factor, 'decay_power': power}
    for key, value in values.items():
        if value <= 0:
            raise UserError(f'{key} must be above 0, not {value}')
    rate *= scale
    if name == 'plateau':
        return lambda step: jnp.asarray(rate, jnp.float32)
    if name == 'every':
        return decay_every(rate, factor, every, num_examples, seen_at)
    if name == 'inverse':
        return inverse(rate, power, every, num_examples, seen_at)
    if name == 'polynomial':
        return polynomial(rate, power, num_epochs, num_examples, seen_at)
    return cosine(rate, num_epochs, num_examples, seen_at)


def create_controller(plateau=None, warmup=None):
    """Return the controller before the first step, {} for none.

    Args:
      plateau: the config's `plateau`, or None.
      warmup: the config's `warmup`, or None.
    """
    controller = {}
    if plateau:
        if plateau.patience < 1 or plateau.drops < 0 or not 0 < plateau.factor < 1:
            raise UserError(
                'plateau needs patience of at least 1 epoch, drops of at least 0 and a factor between 0 and 1, not '
                f'{plateau.patience}, {plateau.drops}, {plateau.factor}'
            )
        controller['plateau'] = {
            'before': np.float32(np.inf),  # the best value before the last `patience` epochs
            'recent': np.full(plateau.patience, np.inf, np.float32),  # the values of the last `patience` epochs
            'wait': np.int32(0),  # epochs until the next drop is possible
            'drops': np.int32(0),
        }
    if warmup:
        if warmup.steps < 1 or not 0 < warmup.until_error <= 100:
            raise UserError(
                f'warmup needs steps of at least 1 and until_error between 0 and 100, not {warmup.steps}, '
                f'{warmup.until_error}'
            )
        controller['warmup'] = {'wrong': np.int32(0), 'count': np.int32(0), 'over': np.bool_(False)}
    return controller


def warmup_is_over(controller):
    """Return whether the controller has a warm-up that is over."""
    return 'warmup' in controller and bool(controller['warmup']['over'])


def controlled_rate(controller, scheduled, plateau, warmup):
    """Return the learning rate of a step, traceable.

    Args:
      controller: see `create_controller`.
      scheduled: the schedule's rate.
      plateau, warmup: the config's.
    """
    if 'plateau' in controller:
        scheduled = scheduled * plateau.factor ** controller['plateau']['drops']
    if 'warmup' in controller:
        scheduled = jnp.where(controller['warmup']['over'], scheduled, warmup.learning_rate)
    return scheduled


def controller_after_step(controller, step, wrong, count, warmup):
    """Return the controller after a step, traceable; it checks the training error of every `warmup.steps` steps.

    ResNet-110 starts with 0.01 and changes to 0.1 when its training error is below 80% (He et al. 2015, section 4.2);
    the schedule counts the steps of the warm-up, too.

    Args:
      controller: see `create_controller`.
      step: number of the step just taken.
      wrong, count: its wrong answers and its examples.
      warmup: the config's.
    """
    if 'warmup' not in controller:
        return controller
    before = controller['warmup']
    wrong, count = before['wrong'] + wrong, before['count'] + count
    window_ends = (step + 1) % warmup.steps == 0
    below = 100 * wrong < warmup.until_error * count
    after = {
        'wrong': jnp.where(window_ends, 0, wrong),
        'count': jnp.where(window_ends, 0, count),
        'over': before['over'] | (window_ends & below),
    }
    return {**controller, 'warmup': after}


def controller_after_epoch(controller, value, plateau):
    """Return the controller after an epoch, and whether the rate dropped.

    The rate drops when the error has stopped improving (Krizhevsky et al. 2012, section 5; VGG, ResNet and others
    after it): when the best value of all epochs is less than `threshold` better than the best value before the last
    `patience` epochs. The next drop comes `patience` epochs later at the earliest.

    Args:
      controller: see `create_controller`, NumPy arrays.
      value: the metric after this epoch.
      plateau: the config's.
    """
    if 'plateau' not in controller:
        return controller, False
    old = controller['plateau']
    before = np.minimum(old['before'], old['recent'][0])
    recent = np.append(old['recent'][1:], np.float32(value))
    stopped = np.isfinite(before) and before - min(before, recent.min()) < plateau.threshold
    drop = bool(stopped and old['wait'] == 0)
    new = {
        'before': before,
        'recent': recent,
        'wait': np.int32(plateau.patience if drop else max(0, old['wait'] - 1)),
        'drops': np.int32(old['drops'] + drop),
    }
    return {**controller, 'plateau': new}, drop


def drop_reason(controller, plateau):
    """Return the text that explains why the rate has just dropped, or why the run ends."""
    number = int(controller['plateau']['drops'])
    consequence = f'drop {number} of {plateau.drops}' if number <= plateau.drops else 'the run ends'
    improvement = f'{plateau.metric} improved by less than {plateau.threshold:g} in {plateau.patience} epochs'
    return f'{improvement}: {consequence}'


def plateaus_are_over(controller, plateau):
    """Return whether the plateau after the last drop is over, which ends the run."""
    return 'plateau' in controller and int(controller['plateau']['drops']) > plateau.drops
