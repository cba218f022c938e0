"""Learning rates as functions of the step, traceable: step -> rate."""

import functools
import math

import jax.numpy as jnp

from runtime.errors import UserError, nearest


def steps_at(epochs, num_examples, batch_size, start=(0, 0)):
    """The steps after which `epochs` times `num_examples` examples have been taken.

    `start`: (step, examples taken until then), from where on batches are `batch_size`.
    """
    step, taken = start
    return step + math.ceil((round(epochs * num_examples) - taken) / batch_size)


def examples_at(step, batch_size, start=(0, 0)):
    """How many examples have been taken before a step; the inverse of `steps_at`, and traceable."""
    return start[1] + (step - start[0]) * batch_size


def steps_of_rates(rates, steps_at, scale=1.0):
    """A step schedule from (epochs, rate) pairs, as the papers' tables print it; the last rate holds on.

    Args:
      rates: the pairs.
      steps_at: epochs -> the step at which they end.
      scale: of all rates.

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
    """The rate times `factor` after every so many epochs: GoogLeNet's 0.96 every 8 (Szegedy et al. 2014, section 6)."""
    between = max(1, round(epochs * num_examples))
    return lambda step: rate * factor ** (examples_at(step) // between)


def polynomial(rate, power, num_epochs, num_examples, examples_at):
    """rate * (1 - t)^power, t the part of the run that is over; Caffe's quick GoogLeNet has power 0.5."""
    total = round(num_epochs * num_examples)
    return lambda step: rate * jnp.maximum(0, 1 - examples_at(step) / total) ** power


def cosine(rate, num_epochs, num_examples, examples_at):
    """rate * (1 + cos(pi t)) / 2, t the part of the run that is over (DenseNet's technical report)."""
    total = round(num_epochs * num_examples)
    return lambda step: rate * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(1, examples_at(step) / total)))


def inverse(rate, power, epochs, num_examples, examples_at):
    """rate * (1 + e / epochs)^-power after e epochs: the policy `inv` of Caffe's LeNet."""
    return lambda step: rate * (1 + examples_at(step) / (epochs * num_examples)) ** -power


NAMES = ('steps', 'every', 'polynomial', 'cosine', 'inverse', 'plateau')


def create(name, rates, rate, factor, every, power, num_epochs, num_examples, batch_size, start=(0, 0), scale=1.0):
    """The schedule of that name.

    Args:
      name: 'steps' (`steps_of_rates`), 'every' (`decay_every`), 'polynomial', 'cosine', 'inverse', or 'plateau', whose
        drops are the controller's (`controllers.after_epoch`): here it is constant.
      rates: (epochs, rate) pairs, of 'steps'.
      rate: the first one, of the others.
      factor: of 'every'.
      every: of 'every' and 'inverse', in epochs.
      power: of 'polynomial' and 'inverse'.
      num_epochs: of the run.
      num_examples: of an epoch.
      batch_size, start: see `steps_at`.
      scale: of all rates.

    Raises:
      UserError: an unknown name, a value out of range, or drops that lie beyond the end of the run.
    """
    if name not in NAMES:
        raise UserError(f'no schedule {name!r}{nearest(name, NAMES)} There are: {", ".join(NAMES)}.')
    taken = functools.partial(examples_at, batch_size=batch_size, start=start)
    if name == 'steps':
        ends = functools.partial(steps_at, num_examples=num_examples, batch_size=batch_size, start=start)
        schedule = steps_of_rates(rates, ends, scale)
        last_drop = sum(epochs for epochs, _ in rates[:-1])
        if last_drop >= num_epochs:
            raise UserError(
                f'the rate drops for the last time after {last_drop:g} epochs, and the run has {num_epochs:g}: shorten '
                f'the recipe in proportion with --config configs/NAME.py:epochs={num_epochs:g}, or set '
                '--config.learning_rates too; for a short look at a long run, --config.stop_at_step'
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
        return decay_every(rate, factor, every, num_examples, taken)
    if name == 'inverse':
        return inverse(rate, power, every, num_examples, taken)
    if name == 'polynomial':
        return polynomial(rate, power, num_epochs, num_examples, taken)
    return cosine(rate, num_epochs, num_examples, taken)
