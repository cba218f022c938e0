"""Learning rates as functions of the step."""

import math

import jax.numpy as jnp

from errors import UserError


def steps_at(epochs, num_examples, batch_size, start=(0, 0)):
    """The steps after which `epochs` times `num_examples` examples have been taken.

    `start`: (step, examples taken until then), from where on batches are `batch_size`.
    """
    step, taken = start
    return step + math.ceil((round(epochs * num_examples) - taken) / batch_size)


def steps_of_rates(rates, steps_at):
    """A step schedule from (epochs, rate) pairs, as the papers' tables print it; the last rate holds on.

    Args:
      rates: the pairs.
      steps_at: epochs -> the step at which they end.

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
    ends, values = jnp.array(ends, jnp.int32), jnp.array([rate for _, rate in rates], jnp.float32)
    return lambda step: values[jnp.sum(step >= ends)]
