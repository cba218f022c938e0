"""A result in words, beside what the papers printed."""

from evaluation import protocols, published, results, views

WORST = 10


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
    """The papers' rows of the same networks under the same protocol; none where protocols or data differ."""
    if result['labels']:
        return ['published: the papers tested on other labels']
    networks = [entry.member.config.architecture for entry in opened]
    names = {entry.member.protocol.name for entry in opened}
    if len(names) > 1:
        return ['published: nothing; no table has members under several protocols']
    (name,) = names
    rows = [row for row in published.rows(networks) if _is_of_data(row, config)]
    same = [row for row in rows if row.protocol == name and all(_is_of(row, entry) for entry in opened)]
    if rows and not same:
        known = ', '.join(sorted({row.protocol for row in rows}))
        return [f'published: nothing of {" + ".join(networks)} by {name}; by {known} there is']
    return [f'published: {row.errors} (top-1/top-5; {", ".join(_origin(row))})' for row in same]


def _is_of_data(row, config):
    """Whether a row is of the config's data: MNIST, CIFAR-10, or 1000 classes."""
    if row.protocol in protocols.WHOLE:
        return row.protocol.removesuffix('_single') in config.dataset
    return config.num_classes == 1000


def _is_of(row, entry):
    config = entry.member.config
    return published.is_of(row, config.architecture, entry.member.model, trained_sides(entry))


def trained_sides(entry):
    """(low, high) short side of the images that a checkpoint was trained on; None of converted weights."""
    return None if entry.card else tuple(entry.member.config.crop.short_side)


def _origin(row):
    yield row.table
    if row.trained:
        yield f'trained at {"-".join(map(str, dict.fromkeys(row.trained)))}'
    if row.note:
        yield row.note


def worst(rows, names, count=WORST):
    """The classes with the largest errors and the pairs that are most often confused, in lines."""
    yield 'worst classes (top-1 error):'
    for _, name, images, error in results.by_class(rows, names)[:count]:
        yield f'  {error:6.2f}%  {name} ({_images(images)})'
    yield 'most confused (true, predicted):'
    for true, said, times in results.confusions(rows, names)[:count]:
        yield f'  {times:6,}   {true} -> {said}'
