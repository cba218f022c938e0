"""A result in words, beside what the papers printed."""

from evaluation import published, results, views
from input_pipeline import datasets

WORST = 10
MOST = 3  # differences from a row that are told


def lines(config, opened, result):
    """A result in lines.

    Args:
      config: whose data it is.
      opened: the members, of `opening.open_checkpoint`.
      result: of `testing.test`.
    """
    networks = [entry.member.config.architecture for entry in opened]
    used = list({entry.member.protocol.name: entry.member.protocol for entry in opened}.values())
    labels = f', labels of {result["labels"]}' if result['labels'] else ''
    found = [
        f'{" + ".join(networks)} on {config.dataset}/{config.test_split}{labels}, {_images(result["num_examples"])}',
        *(f'protocol {protocol.name}: {protocol.what}{_averaged(protocol)}' for protocol in used),
        *(line for entry in opened for line in _member(entry)),
    ]
    for k in (1, 5):
        low, high = result[f'top{k}_interval']
        wrong = result[f'wrong_top{k}']
        found.append(f'top-{k} error: {result[f"top{k}_error"]:.2f}% ({wrong:,} wrong; 95%: {low:.2f} to {high:.2f})')
    if result['bad_images']:
        found.append(f'counted as wrong: {result["bad_images"]:,} images that cannot be read')
    if result['left_out']:
        found.append(f'left out: {result["left_out"]:,} images without a label of {result["labels"]}')
    rate = f'{result["evaluated"]:,} images in {result["seconds"]:.1f} s, {result["images_per_second"]:.1f} a second'
    compiled = f'{result["compiled"]} program{"" if result["compiled"] == 1 else "s"} compiled'
    return [*found, *beside(config, opened, result), f'{rate}; {compiled}']


def _images(count):
    return f'{count:,} image{"" if count == 1 else "s"}'


def _averaged(protocol):
    """Of what the mean is, where there is one."""
    if protocol.is_single or protocol.scales[0].boxes is views.centre:
        return ''
    return {'softmax': '; mean of soft-maxes', 'logits': '; mean of logits'}[protocol.average]


def _member(entry):
    share = f', weight {entry.member.weight:g}' if entry.member.weight != 1 else ''
    rule = {'best': ", the run's best by test error", 'latest': ", the run's last"}.get(entry.chosen, '')
    yield f'checkpoint: {entry.where}{"" if entry.card else rule}{share}'
    if entry.card:
        source = entry.card['source']
        yield (
            f'weights: {source["name"]} ({source["release"]}), converted from {source["file"]}; they answer the probe '
            'image as their passport says'
        )


def beside(config, opened, result):
    """The papers' rows of these networks under these protocols, in lines.

    A row belongs to a network, its options, its data and its training. Where something is not known to be equal there
    is no row; of the nearest one the line says what differs.
    """
    if result['labels']:
        return ['published: the papers tested on other labels']
    if len({entry.member.weight for entry in opened}) > 1:
        return ["published: nothing; the papers' ensembles weigh all members alike"]
    if len({str(entry.where) for entry in opened}) < len(opened):
        return ["published: nothing; a checkpoint is given twice, and the papers' ensembles are of several networks"]
    networks, by = [published.trained(entry) for entry in opened], [entry.member.protocol.name for entry in opened]
    names = [network.config.architecture for network in networks]
    rows = [row for row in published.rows() if len(row.members) == len(opened) and published.is_of_data(row, config)]
    fits = [fit for fit in (published.fit(row, networks, by) for row in rows) if fit]
    equal = [fit.row for fit in fits if not fit.differences]
    if equal:
        return [f'published: {row.errors} (top-1/top-5; {", ".join(_origin(row, config, result))})' for row in equal]
    if fits:
        fit = min(fits, key=lambda fit: (not fit.row.is_of_recipes, len(fit.differences)))
        more = len(fit.differences) - MOST
        rest = f'; and {more} more' if more > 0 else ''
        return [
            f'published: no row is known to be of this network and its training; the nearest is {fit.row.errors} '
            f'({", ".join(_origin(fit.row))}): {"; ".join(fit.differences[:MOST])}{rest}'
        ]
    known = sorted({' and '.join(row.protocols) for row in rows if published.fit(row, networks)})
    here = ' and '.join(dict.fromkeys(by))
    return [f'published: nothing of {" + ".join(names)} by {here}; by {", ".join(known)} there is'] if known else []


def _origin(row, config=None, result=None):
    yield f'{row.source}: {row.label}'
    if row.note:
        yield row.note
    if row.test5 is not None:
        yield f"{row.test5} of ILSVRC's test images"
    if result and result['num_examples'] != datasets.find(config.dataset).test_images:
        yield f'of {_images(datasets.find(config.dataset).test_images)}'


def worst(rows, names, count=WORST):
    """The classes with the largest errors and the pairs that are most often confused, in lines."""
    yield 'worst classes (top-1 error):'
    for _, name, images, error in results.by_class(rows, names)[:count]:
        yield f'  {error:6.2f}%  {name} ({_images(images)})'
    yield 'most confused (true, predicted):'
    for true, said, times in results.confusions(rows, names)[:count]:
        yield f'  {times:6,}   {true} -> {said}'
