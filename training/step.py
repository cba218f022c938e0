"""The jitted functions of a run: a training step, many of them in one dispatch, a count of errors.

Each is a pure function of the state and the data. Randomness is `fold_in(seed, step)`, so a step depends on nothing
but (state, batch).
"""

import functools

import jax
import jax.numpy as jnp
import optax
from jax import lax

from input_pipeline import loader
from training import sdlm
from training.state import add_totals

_DIGEST_BASE = 1_000_003


def train_step(state, batch, *, model, loss, optimizer, preprocess, seed, auxiliary_weight=0.3):
    """One update: preprocess, forward, loss, gradient, optimiser.

    Args:
      state: `TrainState`.
      batch: of `input_pipeline.loader.stream`; where its mask is False an example counts for nothing.
      model: a Flax module.
      loss: (logits, label) -> scalar, of one example.
      optimizer: an optax transformation.
      preprocess: batch -> float images.
      seed: of dropout.
      auxiliary_weight: of the loss of each auxiliary head, if the network has any.

    Returns:
      The new state, its `window` with this step's metrics added.
    """
    images = preprocess(batch)
    count = jnp.maximum(jnp.sum(batch['mask']), 1)

    def mean_loss(params):
        dropout = jax.random.fold_in(jax.random.key(seed), state.step)
        logits, updated = model.apply(
            state.variables | {'params': params},
            images,
            train=True,
            mutable=['batch_stats', 'auxiliary'],
            rngs={'dropout': dropout},
        )

        def mean(logits):
            losses = jax.vmap(loss)(logits.astype(jnp.float32), batch['label'])
            return jnp.sum(jnp.where(batch['mask'], losses, 0)) / count

        heads = sum(mean(head) for head in jax.tree.leaves(updated.get('auxiliary', {})))
        value = mean(logits)
        return value + auxiliary_weight * heads, (value, logits, updated.get('batch_stats', {}))

    (_, (value, logits, batch_stats)), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    wrong = (jnp.argmax(logits, axis=-1) != batch['label']) & batch['mask']
    metrics = {
        'loss': value * count,
        'wrong': jnp.sum(wrong),
        'count': jnp.sum(batch['mask']),
        'skipped': jnp.sum(batch['bad']),
        'first_nonfinite': jnp.where(jnp.isfinite(value), state.window['first_nonfinite'], state.step),
    }
    return state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
        order_digest=digest_order(state.order_digest, batch['index']),
        window=add_totals(state.window, metrics),
    )


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
    """Errors of one test batch: {'loss' (sum), 'wrong_top1', 'wrong_top5', 'count'}; masked examples count nothing.

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
