"""Metrics: sums over training steps, and the errors of a test split with every example counted once."""

import jax
import jax.numpy as jnp

from input_pipeline import loader
from runtime.errors import UserError

_NEVER = 2**31 - 1


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
