"""ImageNet-C: a network's errors under 15 corruptions of 5 severities (Hendrycks and Dietterich 2019).

The corruption error (CE) of a network is the sum of its errors over the severities, divided by AlexNet's; the mean
corruption error (mCE) is the mean over the 15 corruptions (section 4.2). The relative CE compares how much the errors
rise: the errors on the clean images are subtracted from both sums.
"""

from typing import NamedTuple

from evaluation import evaluator, report
from input_pipeline import datasets
from input_pipeline.sources import HELD_OUT
from papers import imagenet_c
from runtime import distributed
from runtime.errors import UserError

PARTS = tuple(f'{name}/{severity}' for name in imagenet_c.ALEXNET for severity in imagenet_c.SEVERITIES)
_SHARED = ('protocol', 'average', 'labels', 'step', 'chosen', 'checkpoint', 'passport', 'compiled')
_SPEED = ('seconds', 'evaluated', 'images_per_second')


class Errors(NamedTuple):
    """The errors of a network under a corruption, in percent.

    Fields:
      errors: top-1 error for each severity, None where it is missing.
      mean: their mean, or None if one is missing.
      ce: corruption error, or None.
      relative_ce: relative corruption error, or None without the error on the clean images.
    """

    errors: tuple
    mean: float | None
    ce: float | None
    relative_ce: float | None


def is_complete(config):
    """Return whether the test split of a config is all of ImageNet-C, not one corruption and severity."""
    return config.dataset == 'imagenet_c' and config.test_split in HELD_OUT


def find(data_dir):
    """Return the `PARTS` that there are.

    Raises:
      UserError: there are none, or no `data_dir`.
    """
    if not data_dir:
        raise UserError("the data set 'imagenet_c' needs --config.data_dir=FOLDER")
    parts = [part for part in PARTS if datasets.imagenet_c_folder(data_dir, part)]
    if not parts:
        raise UserError(
            f'{data_dir} has no folder {PARTS[0]}, nor any other CORRUPTION/SEVERITY of '
            'ImageNet-C: pass --config.data_dir=FOLDER, in which its archives are unpacked'
        )
    return parts


def missing(parts):
    """Describe the `PARTS` that are missing, such as 'fog, snow/4'; '' if none is."""
    texts = []
    for name in imagenet_c.ALEXNET:
        of_name = [f'{name}/{severity}' for severity in imagenet_c.SEVERITIES]
        absent = [part for part in of_name if part not in parts]
        texts += [name] if absent == of_name else absent
    return ', '.join(texts)


def run(config, checkpoints, parts, evaluate):
    """Evaluate checkpoints on each of some parts.

    Args:
      config: config that names the data.
      checkpoints: the members, from `open_checkpoint`.
      parts: from `find`.
      evaluate: function of (index among `PARTS`, config of the part, scorer) that returns the result of
        `evaluator.evaluate`.

    Returns:
      {part: result}.
    """
    with distributed.Agreed() as facts:
        facts['the list of corruptions'] = parts
    scorer, results = evaluator.create_scorer(config, checkpoints), {}
    for part in parts:
        part_config = config.copy_and_resolve_references()
        part_config.test_split = part
        results[part] = evaluate(PARTS.index(part), part_config, scorer)
    return results


def errors_of(errors, clean_error=None):
    """Return {corruption: `Errors`} for all 15 corruptions.

    Args:
      errors: {part: top-1 error in percent}.
      clean_error: top-1 error on the clean images in percent, or None.
    """
    table = {}
    for name, alexnet in imagenet_c.ALEXNET.items():
        each = tuple(errors.get(f'{name}/{severity}') for severity in imagenet_c.SEVERITIES)
        mean = None if None in each else sum(each) / len(each)
        ce = None if mean is None else 100 * mean / float(alexnet)
        relative = None
        if mean is not None and clean_error is not None:
            relative = 100 * (mean - clean_error) / float(alexnet - imagenet_c.ALEXNET_CLEAN)
        table[name] = Errors(each, mean, ce, relative)
    return table


def mean_of(table, field):
    """Return the mean of a field of all `Errors` of a table; None if one is missing."""
    values = [getattr(errors, field) for errors in table.values()]
    return None if None in values else sum(values) / len(values)


def summary(results, clean_error=None):
    """Return the result for ImageNet-C as JSON values: the errors, mCE and relative mCE, and the result of each part.

    Args:
      results: from `run`.
      clean_error: see `errors_of`.
    """
    table = errors_of({part: result['top1_error'] for part, result in results.items()}, clean_error)
    last = list(results.values())[-1]
    seconds, evaluated = (sum(result[key] for result in results.values()) for key in ('seconds', 'evaluated'))
    return {
        'mce': mean_of(table, 'ce'),
        'relative_mce': mean_of(table, 'relative_ce'),
        'clean_error': clean_error,
        'missing': missing(results),
        'corruptions': {name: errors._asdict() for name, errors in table.items()},
        **{key: sum(result[key] for result in results.values()) for key in ('num_examples', 'bad_images')},
        **{key: last[key] for key in _SHARED},
        'seconds': seconds,
        'evaluated': evaluated,
        'images_per_second': evaluated / seconds,
        'parts': {
            part: {key: value for key, value in result.items() if key not in (*_SHARED, *_SPEED)}
            for part, result in results.items()
        },
    }


def lines(config, checkpoints, result):
    """Yield the lines of text that describe a `summary`."""
    parts = result['parts']
    yield from report.head(
        checkpoints, result, f'{config.dataset}, {len(parts)} of {len(PARTS)} corruptions x severities'
    )
    yield f'{"top-1 error, %":17}' + ''.join(f'{severity:7}' for severity in imagenet_c.SEVERITIES) + (
        f'{"mean":>8}{"AlexNet":>9}{"CE":>8}'
    )  # fmt: skip
    for name, errors in result['corruptions'].items():
        cells = ''.join(f'{_text(error):>7}' for error in errors['errors'])
        yield (f'{name:17}{cells}{_text(errors["mean"]):>8}{imagenet_c.ALEXNET[name]:9.2f}{_text(errors["ce"]):>8}')
    if result['mce'] is None:
        yield f'no mean corruption error (mCE): missing {result["missing"]}'
    else:
        yield f'mean corruption error (mCE): {result["mce"]:.2f}%'
    if result['relative_mce'] is not None:
        yield f'relative mCE: {result["relative_mce"]:.2f}%, with {result["clean_error"]:g}% error on the clean images'
    elif result['mce'] is not None:
        yield 'relative mCE: pass --clean_error=PERCENT, the top-1 error on the clean images'
    if result['bad_images']:
        yield f'counted as wrong: {result["bad_images"]:,} unreadable images'
    counts = {part['num_examples'] for part in parts.values()}
    here = (
        ''
        if counts == {imagenet_c.IMAGES}
        else f'; here {" to ".join(f"{n:,}" for n in sorted({min(counts), max(counts)}))}'
    )
    yield f"AlexNet's errors: {imagenet_c.SOURCE}, {imagenet_c.IMAGES:,} images of 1,000 classes each{here}"
    yield report.speed(result)


def _text(value):
    return '-' if value is None else f'{value:.2f}'
