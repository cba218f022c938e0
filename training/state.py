"""What a run must keep to go on as if nothing had happened: one tree."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import struct


class TrainState(struct.PyTreeNode):
    """All that is not a pure function of (config, step).

    `order_digest` is a rolling hash of every example number trained on so far (`step.digest_order`): two runs with
    equal digests saw the same examples in the same order, whatever the batch size and the device count. `window` and
    `epoch` are sums of the training metrics (`zero_totals`) since the last line of the log and since the epoch began:
    a run that resumes between two lines logs what it would have logged. `controller` is that of `controllers`, {} where
    the learning rate is a function of the step alone. `average` holds the average of the variables over the steps, {}
    where the run has none. Averages and what the optimizer accumulates are float32, whatever the parameters are: in
    bfloat16 a small step away from a large number is no step.
    """

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: tuple
    order_digest: jax.Array
    window: dict
    epoch: dict
    controller: dict
    average: dict

    @property
    def variables(self):
        """What training goes on with, as `model.apply` takes it."""
        return {'params': self.params, 'batch_stats': self.batch_stats}

    @property
    def deployed(self):
        """What is tested and kept: the average, or the variables themselves."""
        return self.average or self.variables

    def with_batch_stats(self, batch_stats):
        """The state with other statistics in `deployed`."""
        if self.average:
            return self.replace(average={**self.average, 'batch_stats': batch_stats})
        return self.replace(batch_stats=batch_stats)


_NEVER = 2**31 - 1


def zero_totals():
    """Metrics over no steps: sums of the examples' losses, of wrong answers, of examples, of those that could not be
    read and whose place another took; the first step whose loss was not finite, or 2^31 - 1."""
    return {
        'loss': jnp.zeros((), jnp.float32),
        'wrong': jnp.zeros((), jnp.int32),
        'count': jnp.zeros((), jnp.int32),
        'skipped': jnp.zeros((), jnp.int32),
        'first_nonfinite': jnp.full((), _NEVER, jnp.int32),
    }


def add_totals(a, b):
    """The metrics of two stretches of steps together."""
    total = jax.tree.map(jnp.add, a, b)
    return total | {'first_nonfinite': jnp.minimum(a['first_nonfinite'], b['first_nonfinite'])}


@functools.partial(jax.jit, donate_argnums=0)
def close_window(state):
    """Adds the window's sums to the epoch's and begins a new one."""
    return state.replace(epoch=add_totals(state.epoch, state.window), window=zero_totals())


@jax.jit
def all_finite(tree):
    """Whether all numbers of a tree are finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))


def nonfinite_step(totals):
    """The first step whose loss was not finite, or None."""
    step = int(totals['first_nonfinite'])
    return None if step == _NEVER else step


def ema_weight(decay):
    """step -> the weight of the iterate after it in an exponential average whose weights sum to 1 from the start on."""
    return lambda step: jnp.minimum(1, (1 - decay) / -jnp.expm1((step + 1) * math.log(decay)))


def uniform_weight(start):
    """step -> the weight of the iterate after it in the mean of all from step `start` on; 1 before it."""
    return lambda step: 1 / jnp.maximum(1, step + 1 - start)


def moved(average, variables, weight):
    """The average after one more iterate."""
    return jax.tree.map(lambda old, new: old + weight * (new - old), average, wide(variables))


def wide(tree):
    """The tree in float32, or in its own type where that is wider."""
    return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree)


def create(model, optimizer, image_shape, seed, controller=None, averaged=False):
    """The state before the first step.

    Args:
      model: a Flax module.
      optimizer: an optax transformation.
      image_shape: (H, W, C).
      seed: of the initial weights.
      controller: of `controllers.create`.
      averaged: whether the variables are averaged.
    """
    variables = model.init(jax.random.key(seed), jnp.zeros((1, *image_shape)), train=True)  # auxiliary heads too
    params, batch_stats = variables['params'], variables.get('batch_stats', {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(wide(params)),
        order_digest=jnp.zeros((), jnp.uint32),
        window=zero_totals(),
        epoch=zero_totals(),
        controller=jax.tree.map(jnp.asarray, controller or {}),
        average=wide({'params': params, 'batch_stats': batch_stats}) if averaged else {},
    )
