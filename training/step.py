"""The training state and the training step, alone or many in one dispatch, and the test of a batch and of a split.

All functions are pure, except `count_split`. Dropout draws from (seed, step), and the images are changed at random by
(seed, epoch, example number) (`input_pipeline.pixels`). So a step depends on nothing but its config, state and batch.
"""

import functools
import math

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import lax

from architectures import layers
from input_pipeline import loader
from runtime.errors import UserError

_DIGEST_BASE = 1_000_003
_NEVER = 2**31 - 1


class TrainState(struct.PyTreeNode):
    """Everything that changes in training: what a checkpoint stores.

    `order_digest` is a rolling hash of the example numbers trained on so far (`digest_order`): two runs with equal
    digests saw the same examples in the same order, whatever the batch size and the device count. `window` and `epoch`
    are sums of the training metrics (`zero_totals`) since the last row of the log and since the epoch began: a
    run that resumes between two rows logs what an uninterrupted run logs. `controller` is from
    `schedules.create_controller`, {} if the learning rate depends on the step alone. `average` holds the average of the
    variables over the steps, {} if the run has none. Averages and the optimizer's accumulators are float32 even for
    bfloat16 parameters, which would round small updates of large numbers away.
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
        """The variables that training updates, for `model.apply`."""
        return {'params': self.params, 'batch_stats': self.batch_stats}

    @property
    def deployed(self):
        """The variables to test and to save: the average if there is one, else those that training updates."""
        return self.average or self.variables

    def with_batch_stats(self, batch_stats):
        """Return the state with the given batch statistics in `deployed`."""
        if self.average:
            return self.replace(average={**self.average, 'batch_stats': batch_stats})
        return self.replace(batch_stats=batch_stats)


def create_state(model, optimizer, image_shape, seed, controller=None, averaged=False):
    """Return the state before the first step.

    Args:
      model: a Flax module.
      optimizer: an optax transformation.
      image_shape: (H, W, C).
      seed: seed of the initial weights.
      controller: from `schedules.create_controller`.
      averaged: whether to keep an average of the variables.
    """
    variables = model.init(jax.random.key(seed), jnp.zeros((1, *image_shape)), train=True)  # with auxiliary heads
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


def train_step(
    state, batch, *, model, loss, optimizer, preprocess, seed, auxiliary_weight=0.3, rate, controller_after=None,
    average_weight=None, accumulate=1, num_devices=1,
):  # fmt: skip
    """Make one update: preprocess, forward, loss, gradient, optimizer.

    Args:
      state: `TrainState`.
      batch: from `input_pipeline.loader.stream`; examples whose mask is False are ignored.
      model: a Flax module.
      loss: (logits, label) -> scalar, of one example.
      optimizer: from `optimizers.create`.
      preprocess: batch -> float images.
      seed: seed of dropout.
      auxiliary_weight: weight of the loss of each auxiliary head, if the network has any.
      rate: (step, controller) -> learning rate.
      controller_after: (controller, step, wrong, count) -> controller; None leaves it unchanged.
      average_weight: step -> the weight of this iterate in the average of all; None for no average.
      accumulate: number of parts of the batch that go through the network one after another; their gradients are added
        up. Batch norm normalizes each part by itself and updates its moving averages once per part.
      num_devices: number of devices that the batch is sharded over; each holds a piece of every part.

    Returns:
      The new state, its `window` with the sums of this step added.
    """
    images = preprocess(batch)
    count = jnp.maximum(jnp.sum(batch['mask']), 1)
    dropout = jax.random.fold_in(jax.random.key(seed), state.step)

    def loss_of(params, batch_stats, images, label, mask, key):
        """Return the sum over a part's examples, divided by the number of examples in the batch."""
        logits, updated = model.apply(
            {'params': params, 'batch_stats': batch_stats},
            images,
            train=True,
            mutable=['batch_stats', 'auxiliary'],
            rngs={'dropout': key},
        )

        def mean(logits):
            losses = jax.vmap(loss)(logits.astype(jnp.float32), label)
            return jnp.sum(jnp.where(mask, losses, 0)) / count

        heads = sum(mean(head) for head in jax.tree.leaves(updated.get('auxiliary', {})))
        value = mean(logits)
        wrong = jnp.sum((jnp.argmax(logits, axis=-1) != label) & mask)
        return value + auxiliary_weight * heads, (value, wrong, updated.get('batch_stats', {}))

    gradients_of = jax.value_and_grad(loss_of, has_aux=True)
    parts = images, batch['label'], batch['mask']
    if accumulate == 1:
        (_, (value, wrong, batch_stats)), gradients = gradients_of(state.params, state.batch_stats, *parts, dropout)
    else:
        value, wrong, batch_stats, gradients = _accumulated(
            gradients_of, state, parts, dropout, accumulate, num_devices
        )
    updates, opt_state = optimizer.update(
        wide(gradients), state.opt_state, wide(state.params), rate=rate(state.step, state.controller)
    )
    params = optax.apply_updates(state.params, updates)
    sums = {
        'loss': value * count,
        'wrong': wrong,
        'count': jnp.sum(batch['mask']),
        'skipped': jnp.sum(batch['bad']),
        'first_nonfinite': jnp.where(jnp.isfinite(value), state.window['first_nonfinite'], state.step),
    }
    average = state.average
    if average_weight:
        average = update_average(average, {'params': params, 'batch_stats': batch_stats}, average_weight(state.step))
    controller = state.controller
    if controller_after:
        controller = controller_after(controller, state.step, wrong, sums['count'])
    return state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        order_digest=digest_order(state.order_digest, batch['index']),
        window=add_totals(state.window, sums),
        controller=controller,
        average=average,
    )


def _accumulated(gradients_of, state, parts, key, accumulate, num_devices):
    """Return (loss, wrong, batch statistics, gradients) of a batch, computed part by part."""

    def split(x):
        """[B, ...] -> [parts, B / parts, ...]; examples stay on their devices and next to their neighbors."""
        x = x.reshape(num_devices, accumulate, -1, *x.shape[1:])
        return jnp.swapaxes(x, 0, 1).reshape(accumulate, -1, *x.shape[3:])

    def add(sums, part):
        number, *part = part
        value, wrong, batch_stats, gradients = sums
        (_, (more, more_wrong, batch_stats)), more_gradients = gradients_of(
            state.params, batch_stats, *part, jax.random.fold_in(key, number)
        )
        gradients = jax.tree.map(jnp.add, gradients, wide(more_gradients))
        return (value + more, wrong + more_wrong, batch_stats, gradients), None

    zeros = (
        jnp.zeros(()), jnp.zeros((), jnp.int32), state.batch_stats, jax.tree.map(jnp.zeros_like, wide(state.params)),
    )  # fmt: skip
    # XLA's CPU backend runs a convolution's gradients many times more slowly inside a loop.
    unroll = jax.default_backend() == 'cpu'
    return lax.scan(add, zeros, (jnp.arange(accumulate), *map(split, parts)), unroll=unroll)[0]


def ema_weight(decay):
    """Return step -> the weight of the iterate after it in an exponential average, whose weights always sum to 1."""
    return lambda step: jnp.minimum(1, (1 - decay) / -jnp.expm1((step + 1) * math.log(decay)))


def uniform_weight(start):
    """Return step -> the weight of the iterate after it in the mean of all iterates from step `start` on; 1 before."""
    return lambda step: 1 / jnp.maximum(1, step + 1 - start)


def update_average(average, variables, weight):
    """Return the average with one more iterate."""
    return jax.tree.map(lambda old, new: old + weight * (new - old), average, wide(variables))


def wide(tree):
    """Return the tree with arrays narrower than float32 converted to float32."""
    return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree)


def digest_order(digest, indices):
    """Add example numbers to a rolling hash, the polynomial sum_p (index_p + 1) b^(last - p) modulo 2^32."""
    powers = [pow(_DIGEST_BASE, k, 2**32) for k in range(len(indices), -1, -1)]
    powers = jnp.array(powers, jnp.uint32)
    return digest * powers[0] + jnp.sum((indices.astype(jnp.uint32) + 1) * powers[1:], dtype=jnp.uint32)


def resident_steps(step, batch_size, batch_sharding, single=False):
    """Return a function that takes many steps in one dispatch, over a data set stored on the device.

    Args:
      step: (state, batch) -> state.
      batch_size: examples per step.
      batch_sharding: sharding of a batch.
      single: take one step per dispatch, without a loop, inside which XLA's CPU backend runs a convolution's gradients
        many times more slowly.

    Returns:
      (state, images [N, H, W, C], labels [N], order int32 [2, at least count * batch_size], count) -> state after
      `count` steps, each gathering its examples. `order` holds their numbers and epochs; a number of N or more is
      another version of example number % N. `count` is not compiled in, so every dispatch runs the same program.
    """

    def steps(state, images, labels, order, count):
        def body(i, state):
            index, epoch = lax.dynamic_slice(order, (0, i * batch_size), (2, batch_size))
            batch = loader.gather(images, labels, index, epoch)
            batch = jax.tree.map(lambda x: lax.with_sharding_constraint(x, batch_sharding), batch)
            return step(state, batch)

        return body(0, state) if single else lax.fori_loop(0, count, body, state)

    return steps


def measure_batch_stats(variables, batch, *, model, preprocess, seed):
    """Return batch norm's statistics of one batch: means and unbiased variances.

    Args:
      variables: the network's variables.
      batch: from `input_pipeline.loader.stream`.
      model: a Flax module.
      preprocess: batch -> float images.
      seed: seed of dropout.
    """
    blank = jax.tree.map(jnp.zeros_like, variables['batch_stats'])
    _, updated = model.apply(
        {**variables, 'batch_stats': blank},
        preprocess(batch),
        train=True,
        mutable=['batch_stats', 'auxiliary'],
        rngs={'dropout': jax.random.key(seed)},
    )
    return jax.tree.map(lambda average: average / (1 - layers.BatchNorm.momentum), updated['batch_stats'])


@functools.partial(jax.jit, donate_argnums=0)
def close_window(state):
    """Add the window's sums to the epoch's and start a new window."""
    return state.replace(epoch=add_totals(state.epoch, state.window), window=zero_totals())


@jax.jit
def all_finite(tree):
    """Return whether all numbers of a tree are finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))


# Metrics: sums over training steps, and the errors of a test split, in which every example counts once


def zero_totals():
    """Return the training metrics of zero steps.

    'loss' is the sum of the examples' losses, 'wrong' counts wrong answers, 'count' examples, and 'skipped' unreadable
    examples replaced by others. 'first_nonfinite' is the first step whose loss was not finite, or 2^31 - 1.
    """
    return {
        'loss': jnp.zeros((), jnp.float32),
        'wrong': jnp.zeros((), jnp.int32),
        'count': jnp.zeros((), jnp.int32),
        'skipped': jnp.zeros((), jnp.int32),
        'first_nonfinite': jnp.full((), _NEVER, jnp.int32),
    }


def add_totals(a, b):
    """Return the combined metrics of two ranges of steps."""
    total = jax.tree.map(jnp.add, a, b)
    return total | {'first_nonfinite': jnp.minimum(a['first_nonfinite'], b['first_nonfinite'])}


def nonfinite_step(totals):
    """Return the first step whose loss was not finite, or None."""
    step = int(totals['first_nonfinite'])
    return None if step == _NEVER else step


def means(sums):
    """Return the mean loss and the error in percent of training metrics (`zero_totals`) on the host."""
    count = max(int(sums['count']), 1)
    bad_images = {'bad_images': int(sums['skipped'])} if sums['skipped'] else {}
    return {'loss': float(sums['loss']) / count, 'error': 100 * int(sums['wrong']) / count, **bad_images}


def count_errors(variables, batch, *, model, loss, preprocess):
    """Count the errors of one test batch: {'loss' (sum), 'wrong_top1', 'wrong_top5', 'count', 'bad'}, without padding.

    An example is wrong in the top 5 when five or more other classes score at least as high as its label: ties count
    against the network, and so do scores that are NaN.
    """
    images = preprocess(batch)
    logits = model.apply(variables, images, train=False).astype(jnp.float32)
    of_label = jnp.take_along_axis(logits, batch['label'][:, None], axis=-1)
    rivals = logits.shape[-1] - 1 - jnp.sum(logits < of_label, axis=-1)
    rank = {'wrong_top1': rivals >= 1, 'wrong_top5': rivals >= 5}
    losses = jax.vmap(loss)(logits, batch['label'])
    return {
        'loss': jnp.sum(jnp.where(batch['mask'], losses, 0)),
        'count': jnp.sum(batch['mask']),
        'bad': jnp.sum(batch['bad']),
        **{name: jnp.sum(wrong & batch['mask']) for name, wrong in rank.items()},
    }


def count_split(count, variables, batches, batch_sharding, stop=lambda: False):
    """Return the errors of a split: {'loss' (mean), 'top1_error', 'top5_error' (percent), 'wrong_top1', ...}.

    Args:
      count: (variables, batch) -> sums, `count_errors`.
      variables: {'params', 'batch_stats'}.
      batches: from `loader.test_batches`.
      batch_sharding: sharding of a batch.
      stop: called before each batch; once it returns True, the result is None.
    """
    sums, put = [], loader.to_device(batch_sharding)
    for batch in batches:
        if stop():
            return None
        sums.append(count(variables, put(batch)))
    sums = {key: sum(float(s[key]) for s in sums) for key in sums[0]}
    examples, bad = int(sums['count']), int(sums['bad'])
    if not examples:
        raise UserError('no image of the test split could be read')
    result = {
        'loss': sums['loss'] / examples,
        'top1_error': 100 * sums['wrong_top1'] / examples,
        'top5_error': 100 * sums['wrong_top5'] / examples,
        'wrong_top1': int(sums['wrong_top1']),
        'wrong_top5': int(sums['wrong_top5']),
        'num_examples': examples,
    }
    return result | ({'bad_images': bad} if bad else {})
