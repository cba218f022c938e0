"""The jitted functions of a run: a training step, many of them in one dispatch, a count of errors.

Each is a pure function of the state and the data. Randomness is `fold_in(seed, step)`, so a step depends on nothing
but (state, batch).
"""

import functools

import jax
import jax.numpy as jnp
import optax
from jax import lax

from architectures import layers
from input_pipeline import loader
from training import sdlm
from training.state import add_totals, moved, wide

_DIGEST_BASE = 1_000_003


def train_step(
    state, batch, *, model, loss, optimizer, preprocess, seed, auxiliary_weight=0.3, rate, controller_after=None,
    average_weight=None, accumulate=1, num_devices=1,
):  # fmt: skip
    """One update: preprocess, forward, loss, gradient, optimizer.

    Args:
      state: `TrainState`.
      batch: of `input_pipeline.loader.stream`; where its mask is False an example counts for nothing.
      model: a Flax module.
      loss: (logits, label) -> scalar, of one example.
      optimizer: of `optimizers.create`.
      preprocess: batch -> float images.
      seed: of dropout.
      auxiliary_weight: of the loss of each auxiliary head, if the network has any.
      rate: (step, controller) -> learning rate.
      controller_after: (controller, step, wrong, count) -> controller, or None: it stays.
      average_weight: step -> the weight of this iterate in the average of all, or None: there is none.
      accumulate: parts of the batch that go through the network one after another; the gradient is that of the whole.
        Batch norm sees each part by itself, and moves its averages once a part.
      num_devices: that the batch is cut over; each holds a piece of every part.

    Returns:
      The new state, its `window` with this step's metrics added.
    """
    images = preprocess(batch)
    count = jnp.maximum(jnp.sum(batch['mask']), 1)
    dropout = jax.random.fold_in(jax.random.key(seed), state.step)

    def loss_of(params, batch_stats, images, label, mask, key):
        """The sum over a part's examples, divided by the whole batch's count."""
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
    metrics = {
        'loss': value * count,
        'wrong': wrong,
        'count': jnp.sum(batch['mask']),
        'skipped': jnp.sum(batch['bad']),
        'first_nonfinite': jnp.where(jnp.isfinite(value), state.window['first_nonfinite'], state.step),
    }
    average = state.average
    if average_weight:
        average = moved(average, {'params': params, 'batch_stats': batch_stats}, average_weight(state.step))
    controller = state.controller
    if controller_after:
        controller = controller_after(controller, state.step, wrong, metrics['count'])
    return state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        order_digest=digest_order(state.order_digest, batch['index']),
        window=add_totals(state.window, metrics),
        controller=controller,
        average=average,
    )


def _accumulated(gradients_of, state, parts, key, accumulate, num_devices):
    """(loss, wrong, batch statistics, gradients) of a batch whose parts follow one another."""

    def cut(x):
        """[B, ...] -> [parts, B / parts, ...], no example leaving its device, neighbours staying together."""
        x = x.reshape(num_devices, accumulate, -1, *x.shape[1:])
        return jnp.swapaxes(x, 0, 1).reshape(accumulate, -1, *x.shape[3:])

    def add(so_far, part):
        number, *part = part
        value, wrong, batch_stats, gradients = so_far
        (_, (more, more_wrong, batch_stats)), more_gradients = gradients_of(
            state.params, batch_stats, *part, jax.random.fold_in(key, number)
        )
        gradients = jax.tree.map(jnp.add, gradients, wide(more_gradients))
        return (value + more, wrong + more_wrong, batch_stats, gradients), None

    nothing = (
        jnp.zeros(()), jnp.zeros((), jnp.int32), state.batch_stats, jax.tree.map(jnp.zeros_like, wide(state.params)),
    )  # fmt: skip
    # XLA's CPU backend runs a convolution's gradients many times more slowly inside of a loop.
    unroll = jax.default_backend() == 'cpu'
    return lax.scan(add, nothing, (jnp.arange(accumulate), *map(cut, parts)), unroll=unroll)[0]


def measure_batch_stats(variables, batch, *, model, preprocess, seed):
    """The statistics that batch norm takes of one batch: means, and unbiased variances.

    Args:
      variables: of the network.
      batch: of `input_pipeline.loader.stream`.
      model: a Flax module.
      preprocess: batch -> float images.
      seed: of dropout.
    """
    blank = jax.tree.map(jnp.zeros_like, variables['batch_stats'])
    _, updated = model.apply(
        {**variables, 'batch_stats': blank},
        preprocess(batch),
        train=True,
        mutable=['batch_stats', 'auxiliary'],
        rngs={'dropout': jax.random.key(seed)},
    )
    return jax.tree.map(lambda moved: moved / (1 - layers.BatchNorm.momentum), updated['batch_stats'])


def digest_order(digest, indices):
    """Adds example numbers to a rolling hash: the polynomial sum_p (index_p + 1) b^(last - p) modulo 2^32."""
    powers = [pow(_DIGEST_BASE, k, 2**32) for k in range(len(indices), -1, -1)]
    powers = jnp.array(powers, jnp.uint32)
    return digest * powers[0] + jnp.sum((indices.astype(jnp.uint32) + 1) * powers[1:], dtype=jnp.uint32)


def resident_steps(step, batch_size, data_sharding, single=False):
    """Many steps in one dispatch, over a data set that lies on the device.

    Args:
      step: (state, batch) -> state.
      batch_size: examples a step.
      data_sharding: of a batch.
      single: a dispatch is one step, and no loop: inside of one, XLA's CPU backend runs a convolution's gradients many
        times more slowly.

    Returns:
      (state, images [N, H, W, C], labels [N], order int32 [2, at least count * batch_size], count) -> state after
      `count` steps, each gathering its examples. The order is their numbers and epochs; a number beyond N is a further
      version of example number % N. How many steps is not part of the program, so every dispatch runs the same one.
    """

    def steps(state, images, labels, order, count):
        def body(i, state):
            index, epoch = lax.dynamic_slice(order, (0, i * batch_size), (2, batch_size))
            batch = loader.gather(images, labels, index, epoch)
            batch = jax.tree.map(lambda x: lax.with_sharding_constraint(x, data_sharding), batch)
            return step(state, batch)

        return body(0, state) if single else lax.fori_loop(0, count, body, state)

    return steps


def count_errors(variables, batch, *, model, loss, preprocess):
    """Errors of one test batch: {'loss' (sum), 'wrong_top1', 'wrong_top5', 'count', 'bad'}; masked examples count
    nothing.

    An example is wrong in the top 5 when five or more other classes score at least as high as its own: a tie counts
    against the network, and so does a score that is not a number.
    """
    images = preprocess(batch)
    logits = model.apply(variables, images, train=False).astype(jnp.float32)
    own = jnp.take_along_axis(logits, batch['label'][:, None], axis=-1)
    rivals = logits.shape[-1] - 1 - jnp.sum(logits < own, axis=-1)
    rank = {'wrong_top1': rivals >= 1, 'wrong_top5': rivals >= 5}
    losses = jax.vmap(loss)(logits, batch['label'])
    return {
        'loss': jnp.sum(jnp.where(batch['mask'], losses, 0)),
        'count': jnp.sum(batch['mask']),
        'bad': jnp.sum(batch['bad']),
        **{name: jnp.sum(wrong & batch['mask']) for name, wrong in rank.items()},
    }


def refresh_curvature(state, images, labels, indices, *, model, loss, preprocess, memory):
    """Re-estimates SDLM's curvature on the examples `indices` of images uint8 [N, H, W, C], and puts it in the state.

    In a network with `head_has_no_parameters` (LeNet-5's RBF units, which are no linear layer either) the curvature
    starts at its `features`, with the exact second derivative of the rest; in the others at the logits.
    """
    batch = loader.gather(images, labels, indices, jnp.zeros_like(indices))
    samples = preprocess(batch)
    if getattr(model, 'head_has_no_parameters', False):
        features = functools.partial(model.apply, method='features')

        def rest(x, label):
            return loss(model.apply({'params': state.params}, x[None], method='classify')[0], label)
    else:
        features, rest = model.apply, loss
    h = sdlm.curvature(lambda p, x: features({'params': p}, x), rest, state.params, samples, batch['label'])
    return state.replace(opt_state=sdlm.update_curvature(state.opt_state, h, memory))
