"""Format a result as text, next to the papers' published errors."""

from evaluation import published, results, views
from input_pipeline import datasets
from runtime.text import cut

WORST = 10
_MATRIX = 12  # classes whose confusion matrix fits a terminal
MOST = 3  # differences from a row that are listed


def lines(config, checkpoints, result):
    """Return the lines of text that describe a result.

    Args:
      config: config that names the data.
      checkpoints: the members, from `open_checkpoint`.
      result: from `evaluator.evaluate`.
    """
    text = head(checkpoints, result, f'{config.dataset}/{config.test_split}')
    for k in (1, 5) if checkpoints[0].member.config.num_classes > 5 else (1,):
        low, high = result[f'top{k}_interval']
        wrong = result[f'wrong_top{k}']
        text.append(f'top-{k} error: {result[f"top{k}_error"]:.2f}% ({wrong:,} wrong; 95%: {low:.2f} to {high:.2f})')
    text.append(calibration(result))
    if result['bad_images']:
        text.append(f'counted as wrong: {result["bad_images"]:,} unreadable images')
    if result['left_out']:
        text.append(f'left out: {result["left_out"]:,} images without a label of {result["labels"]}')
    return [*text, *compare(config, checkpoints, result), speed(result)]


def head(checkpoints, result, data):
    """Return the lines about the data, the protocols and the checkpoints of a result.

    Args:
      checkpoints, result: see `lines`.
      data: text that names the data.
    """
    networks = [checkpoint.member.config.architecture for checkpoint in checkpoints]
    by_name = {checkpoint.member.protocol.name: checkpoint.member.protocol for checkpoint in checkpoints}
    labels = f', labels of {result["labels"]}' if result['labels'] else ''
    return [
        f'{" + ".join(networks)} on {data}{labels}, {_images(result["num_examples"])}',
        *(f'protocol {protocol.name}: {protocol.description}{_averaged(protocol)}' for protocol in by_name.values()),
        *(line for checkpoint in checkpoints for line in _member(checkpoint)),
    ]


def speed(result):
    """Return the line about the time that a result took."""
    rate = result['images_per_second']
    pace = f'{rate:,.1f} per second' if rate >= 1 else f'{1 / rate if rate else 0:,.1f} s per image'
    compiled = f'{result["compiled"]} program{"" if result["compiled"] == 1 else "s"} compiled'
    return f'{_images(result["evaluated"])} in {result["seconds"]:.1f} s, {pace}; {compiled}'


def calibration(result):
    """Return the line about the expected calibration error of a result."""
    if result['ece'] is None:
        return 'expected calibration error: unknown, some outputs are not numbers'
    return (
        f'expected calibration error: {result["ece"]:.2f}% (mean confidence {result["confidence"]:.2f}%, '
        f'{results.BINS} bins)'
    )


def _images(count):
    return f'{count:,} image{"" if count == 1 else "s"}'


def _averaged(protocol):
    """Return what is averaged, or '' if the protocol has a single view."""
    if protocol.is_single or protocol.scales[0].boxes is views.center:
        return ''
    return {'softmax': '; mean of softmax probabilities', 'logits': '; mean of logits'}[protocol.average]


def _member(checkpoint):
    weight = f', weight {checkpoint.member.weight:g}' if checkpoint.member.weight != 1 else ''
    rule = {'best': ", the run's best by test error", 'latest': ", the run's last"}.get(checkpoint.chosen, '')
    yield f'checkpoint: {checkpoint.where}{"" if checkpoint.card else rule}{weight}'
    if checkpoint.card:
        source = checkpoint.card['source']
        yield (
            f'weights: {source["name"]} ({source["release"]}), converted from {source["file"]}; '
            'outputs for the probe image match the passport'
        )


def compare(config, checkpoints, result):
    """Return the lines with the papers' rows for these networks and protocols.

    A row belongs to a network with its options, its data and its training. If these are not known to be equal, the
    line names the nearest row and what differs.
    """
    if result['labels']:
        return ['published: the papers tested on other labels']
    if datasets.find(config.dataset).is_cropped:
        return ['published: the papers tested on other images']
    if len({checkpoint.member.weight for checkpoint in checkpoints}) > 1:
        return ["published: nothing; the papers' ensembles weigh all members equally"]
    if len({str(checkpoint.where) for checkpoint in checkpoints}) < len(checkpoints):
        return ["published: nothing; a checkpoint is given twice, and the papers' ensembles are of several networks"]
    networks = [published.trained(checkpoint) for checkpoint in checkpoints]
    by = [checkpoint.member.protocol.name for checkpoint in checkpoints]
    names = [network.config.architecture for network in networks]
    rows = [
        row for row in published.rows() if len(row.members) == len(checkpoints) and published.is_of_data(row, config)
    ]
    fits = [fit for fit in (published.fit(row, networks, by) for row in rows) if fit]
    equal = [fit.row for fit in fits if not fit.differences]
    if equal:
        return [f'published: {row.errors} (top-1/top-5; {", ".join(_origin(row, config, result))})' for row in equal]
    if fits:
        fit = min(fits, key=lambda fit: (not fit.row.is_of_recipes, len(fit.differences)))
        more = len(fit.differences) - MOST
        rest = f'; and {more} more' if more > 0 else ''
        return [
            f'published: no row is known to match this network and its training; the nearest is {fit.row.errors} '
            f'({", ".join(_origin(fit.row))}): {"; ".join(fit.differences[:MOST])}{rest}'
        ]
    known = sorted({' and '.join(row.protocols) for row in rows if published.fit(row, networks)})
    used = ' and '.join(dict.fromkeys(by))
    return [f'published: nothing for {" + ".join(names)} with {used}, only with {", ".join(known)}'] if known else []


def _origin(row, config=None, result=None):
    yield f'{row.source}: {row.label}'
    if row.note:
        yield row.note
    if row.test5 is not None:
        yield f"{row.test5} of ILSVRC's test images"
    if result and result['num_examples'] != datasets.find(config.dataset).test_images:
        yield f'of {_images(datasets.find(config.dataset).test_images)}'


def worst(rows, names, count=WORST):
    """Yield lines with the confusion matrix of a few classes, or the classes and pairs with the most errors of many,
    and the pictures whose wrong answers have the largest probabilities."""
    if len(names) <= _MATRIX:
        yield from _matrix(rows, names)
    else:
        yield from _worst_classes(rows, names, count)
    wrong = sorted((row for row in rows if row.counts and row.rank > 0), key=lambda row: -row.probabilities[0])
    if wrong:
        yield 'worst pictures:'
    for row in wrong[:count]:
        yield f'  {row.name}: {names[row.classes[0]]} {row.probabilities[0]:.2f}, and it is {names[row.label]}'


def _matrix(rows, names):
    """Yield the lines of a confusion matrix."""
    counts = results.confusion_matrix(rows, len(names))
    texts = [cut(str(name), 12) for name in names]
    first = max(map(len, texts))
    yield 'confusion matrix (a row for each true class, a column for each predicted one):'
    yield f'  {"":{first}}  ' + '  '.join(texts)
    for text, row in zip(texts, counts, strict=True):
        columns = (f'{number:>{len(column)},}' for number, column in zip(row, texts, strict=True))
        yield f'  {text:{first}}  ' + '  '.join(columns)


def _worst_classes(rows, names, count):
    yield 'worst classes (top-1 error):'
    for _, name, images, error in results.by_class(rows, names)[:count]:
        yield f'  {error:6.2f}%  {name} ({_images(images)})'
    yield 'most confused (true, predicted):'
    for true, predicted, times in results.confusions(rows, names)[:count]:
        yield f'  {times:6,}   {true} -> {predicted}'
