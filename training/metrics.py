"""Errors of a whole split, every example counted once."""

from input_pipeline import loader
from runtime.errors import UserError


def count_split(count, variables, batches, cut, stop=lambda: False):
    """Errors of a whole split: {'loss' (mean), 'top1_error', 'top5_error' (per cent), 'wrong_top1', ...}.

    Args:
      count: (variables, batch) -> sums, `step.count_errors`.
      variables: {'params', 'batch_stats'}.
      batches: of `loader.test_batches`.
      cut: the sharding of a batch.
      stop: asked between batches; once True, the answer is None.
    """
    sums, put = [], loader.to_device(cut)
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


def means(sums):
    """The mean loss and the error in per cent of a stretch of training: the `state.zero_totals` of it, on the host."""
    count = max(int(sums['count']), 1)
    found = {'loss': float(sums['loss']) / count, 'error': 100 * int(sums['wrong']) / count}
    return found | ({'bad_images': int(sums['skipped'])} if sums['skipped'] else {})
