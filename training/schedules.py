"""Learning rates as functions of the step."""

import math

import jax.numpy as jnp

from errors import UserError


def steps_at(epochs, num_examples, batch_size):
    """The steps after which `epochs` times `num_examples` examples have been taken."""
    return math.ceil(round(epochs * num_examples) / batch_size)


def steps_of_rates(rates, num_examples, batch_size):
    """A step schedule from (epochs, rate) pairs, as the papers' tables print it; the last rate holds on.

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
        ends.append(steps_at(epoch, num_examples, batch_size))
    ends, values = jnp.array(ends, jnp.int32), jnp.array([rate for _, rate in rates], jnp.float32)
    return lambda step: values[jnp.sum(step >= ends)]
