"""A self-contained page with all that is known about a run or converted weights."""

import json
import shlex
import string
from pathlib import Path

import jax
import numpy as np
from matplotlib.ticker import MaxNLocator

import evaluation
from configs import base, listing
from evaluation import label_sets, results
from evaluation import report as evaluation_report
from figures import filters, markup, style
from figures.inputs import open_one
from figures.markup import text
from input_pipeline import classes, datasets, geometry
from input_pipeline.progress import bar
from runtime import stored_config
from runtime.errors import UserError
from runtime.files import write_atomically
from training import checkpoints, log

_TEMPLATE = Path(__file__).with_name('report.html')
PAIRS, WRONG, SHOWN = 20, 48, 8  # confused pairs, wrong images and predictions on the page


def make(out, config, checkpoint, step='best'):
    """Write the page.

    Args:
      out: path of the page, .html.
      config, checkpoint, step: see `figures.inputs.open_one`. If the config's data is missing, the page says so; if it
        was named on the command line, that is an error.
    """
    markup.check(out, 'report')
    network = open_one(config, checkpoint, step)
    workdir = Path(checkpoints.locate(checkpoint[0])[0]).parent
    command = shlex.join(['python', 'visualize.py', 'report', '--checkpoint', checkpoint[0], '--out', Path(out).name])
    parts = [
        ('Network', _network(network.member) + (passport(network.card) if network.card else '')),
        ('Curves', curves(log.read(workdir), config, network.card)),
        *tested(config, network.checkpoint, _missing(config, checkpoint[0], command)),
        ('Filters', _filters(network.member.variables['params'])),
        ('Config', _config(config)),
    ]
    write_atomically(out, page(network.title, parts).encode())


def page(title, parts):
    """Return the page as HTML, from [(heading, HTML)]."""
    names = [f'part{number}' for number in range(len(parts))]
    links = [f'<a href="#{name}">{text(head)}</a>' for name, (head, _) in zip(names, parts, strict=True)]
    sections = [
        f'<section id="{name}">\n<h2>{text(head)}</h2>\n{body}\n</section>'
        for name, (head, body) in zip(names, parts, strict=True)
    ]
    body = string.Template(_TEMPLATE.read_text()).substitute(
        title=text(title),
        contents='\n'.join(links),
        sections='\n'.join(sections),
        blue=style.BLUE,
        orange=style.ORANGE,
        sky=style.SKY,
    )
    return style.page(title, body, markup.POLICY)


# The network


def passport(card):
    """Return the facts of a passport (`weights.passport`)."""
    source = card['source']
    pairs = [
        ('weights', f'{source["name"]}, as {source["release"]} releases them'),
        ('file', source['file']),
        ('SHA-256', source['sha256']),
        ('license of the weights', card['licence'] or 'unknown'),
        ('classes', card['classes']),
        *(('note', note) for note in card['notes']),
    ]
    checked = (
        f'<p>The outputs for the probe image match the passport in all {len(card["probe"])} layers '
        '(checked when this page was made).</p>'
    )
    return markup.facts(pairs, 'Passport: the origin of these weights') + checked


def _config(config):
    """Return the keys of a config that differ from `configs/base.py`."""
    defaults = base.flat(base.get_config())
    pairs = [(key, _value(value)) for key, value in base.flat(config).items() if value != defaults.get(key)]
    all_keys = json.dumps(json.loads(config.to_json_best_effort()), indent=2, sort_keys=True)
    return (
        f'{markup.facts(pairs, "Differences from configs/base.py")}\n'
        f'<details><summary>All keys</summary><pre>{text(all_keys)}</pre></details>'
    )


def _network(member):
    """Return the facts of a network: its size and its input."""
    config, count = member.config, sum(leaf.size for leaf in jax.tree.leaves(member.variables['params']))
    size = f'{config.image_size}×{config.image_size}'
    low, high = config.pixel_range
    pixels = {
        'range': f'gray levels 0 to 255 become {low:g} to {high:g}',
        'constant': f'mean {config.mean}, standard deviation {config.std}',
    }.get(config.normalize, f'normalized by {config.normalize.replace("_", " ")}')
    pairs = [
        ('network', config.architecture),
        ('options', _value(dict(config.architecture_options)) or 'defaults'),
        ('parameters', f'{count:,}'),
        ('input', f'{size}, {"color" if config.channels == 3 else "gray"}; {pixels}'),
        ('classes', config.num_classes),
    ]
    return markup.facts(pairs, 'The network')


def _value(value):
    if isinstance(value, dict):
        return ', '.join(f'{key}={_value(inner)}' for key, inner in value.items())
    if isinstance(value, tuple | list):
        return ', '.join(f'({_value(inner)})' if isinstance(inner, tuple) else str(inner) for inner in value)
    return value


# The training


def curves(rows, config, card):
    """Return the errors, losses and learning rates of a run's log (`training.log.read`), per epoch."""
    epochs = [row for row in rows if row['kind'] == 'epoch']
    if not epochs:
        name = config.architecture if config.architecture in listing.names() else 'NAME'
        why = (
            'These weights were converted: there is no log of their training.'
            if card
            else 'The run has no epoch in its metrics.jsonl.'
        )
        command = f'python train.py --config configs/{name}.py --config.data_dir=FOLDER'
        return _note(f'{why} To get curves, train a network:', command)
    head = ('epoch', 'step', 'training error', 'test error, top-1', 'test error, top-5', 'training loss', 'test loss')
    lines = [
        (
            f'{row["epoch"]:g}', f'{row["step"]:,}', *(f'{row[key]:.2f}%' for key in _ERRORS),
            f'{row["train_loss"]:.4f}', f'{row["test_loss"]:.4f}',
        )
        for row in epochs
    ]  # fmt: skip
    table = markup.table(head, lines, 'At the end of each epoch')
    return f'{_plot(epochs)}\n<details><summary>The numbers</summary>{table}</details>'


_ERRORS = ('train_error', 'test_top1_error', 'test_top5_error')


def _plot(epochs):
    """Return the curves of the epochs' rows, an <svg>."""
    epoch_numbers = [row['epoch'] for row in epochs]
    panels = {
        'error, %': (('training', 'train_error'), ('test, top-1', 'test_top1_error')),
        'loss': (('training', 'train_loss'), ('test', 'test_loss')),
        'learning rate': (('', 'learning_rate'),),
    }
    with style.look():
        figure = style.figure(12, 4)
        for axes, (title, lines) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            for (label, key), form in zip(lines, ('o--', 's-'), strict=False):
                axes.plot(epoch_numbers, [row[key] for row in epochs], form, label=label, markersize=4)
            axes.set_xlabel('epoch')
            axes.set_title(title)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
            if len(lines) > 1:
                axes.set_ylim(bottom=0)
                axes.legend()
            else:
                axes.set_yscale('log')
        return style.svg(figure)


# The test


def _missing(config, checkpoint, command):
    """Return HTML that says why the test images are missing and what to do; '' if they exist.

    Raises:
      UserError: if they are missing from the folder that the command line names.
    """
    try:
        datasets.open_split(config, config.test_split, any_classes=True)
    except UserError as error:
        try:
            saved = stored_config.get_config(checkpoint).data_dir
        except (UserError, ValueError):  # no valid config is stored there: the command line names one
            saved = ''
        if config.data_dir not in ('', saved):
            raise
        return _note(f'Nothing was tested: {error}. With the test images:', f'{command} --config.data_dir=FOLDER')
    return ''


def _note(why, command):
    return f'<p class="missing">{text(why)}<br><code>{text(command)}</code></p>'


def tested(config, checkpoint, missing=''):
    """Return the sections on the config's test images: [(heading, HTML)].

    Args:
      config: config that names the data.
      checkpoint: from `evaluation.open_checkpoint`.
      missing: HTML to show instead if there are no images.
    """
    if missing:
        return [('Test error', missing)]
    source = datasets.open_split(config, config.test_split, any_classes=True)
    with bar(config.architecture, len(source)) as progress:
        labels = label_sets.fitting(source, checkpoint.member.class_names)
        result, rows, names = evaluation.evaluate(config, checkpoint, labels=labels, progress=progress)
    details = results.details(rows, names)
    return [
        ('Test error', _error(config, checkpoint, result)),
        ('Classes', _classes(details['classes'], details['confusions'])),
        ('Wrong images', _wrong(source, rows, names, config)),
        ('Predictions', _predictions(source, rows, names, config)),
    ]


def _error(config, checkpoint, result):
    low, high = result['top1_interval']
    total = result['num_examples']
    protocol = checkpoint.member.protocol
    top5 = f'{result["top5_error"]:.2f}% ({result["wrong_top5"]:,} wrong; 95%: {_interval(result["top5_interval"])})'
    pairs = [
        *([('top-5 error', top5)] if config.num_classes > 5 else []),
        ('images', f'{total:,}, {config.dataset}/{config.test_split}'),
        *([('labels', result['labels'])] if result['labels'] else []),
        ('protocol', f'{protocol.name}: {protocol.description}'),
        ('loss', '-' if result['loss'] is None else f'{result["loss"]:.4f}'),
        tuple(evaluation_report.calibration(result).split(': ', 1)),
        *([('unreadable, counted as wrong', f'{result["bad_images"]:,}')] if result['bad_images'] else []),
        *(line.split(': ', 1) for line in evaluation_report.compare(config, [checkpoint], result)),
    ]
    optimistic = (
        "<p>This is the run's best checkpoint by test error, so the error is optimistic; "
        '<code>--step latest</code> uses the last one.</p>'
        if checkpoint.chosen == 'best' and not checkpoint.card
        else ''
    )
    return (
        f'<p class="error">{result["top1_error"]:.2f}%</p>\n<p>top-1: {result["wrong_top1"]:,} of {total:,} wrong, 95% '
        f'interval {low:.2f} to {high:.2f}%</p>\n{markup.facts(pairs, "The test")}\n{optimistic}'
    )


def _interval(bounds):
    return ' to '.join(f'{bound:.2f}' for bound in bounds)


def _classes(classes, confusions):
    head = ('class', 'images', 'top-1 error')
    errors = [(row['name'], row['num_examples'], f'{row["top1_error"]:.2f}%') for row in classes]
    pairs = [(pair['true'], pair['predicted'], pair['count']) for pair in confusions[:PAIRS]]
    confused = markup.table(('true', 'predicted', 'times'), pairs, 'The most confused pairs')
    return (
        f'<div class="side">{markup.scrolled(markup.table(head, errors, "Errors, worst class first"), "Classes")}\n'
        f'{confused}</div>'
    )


def _wrong(source, rows, names, config):
    """Return the images whose best class is wrong, the most confident predictions first."""
    wrong = [row for row in rows if row.counts and row.rank > 0]
    if not wrong:
        return '<p>There are none.</p>'
    wrong.sort(key=lambda row: (-row.probabilities[0], row.index))
    pictures = [
        (
            _picture(source, row, config),
            f'{_short(names[row.label])} → <b>{_short(names[row.classes[0]])}</b> {100 * row.probabilities[0]:.0f}%',
        )
        for row in wrong[:WRONG]
    ]
    which = f'{len(pictures)} of {len(wrong):,}' if len(pictures) < len(wrong) else f'All {len(wrong):,}'
    return f'<p>{which}, most confident first: true class → predicted class.</p>\n{markup.grid(pictures)}'


def _predictions(source, rows, names, config):
    """Return evenly spaced images of the split with their five best classes, the right one in another color."""
    read = [row for row in rows if row.counts and row.rank >= 0]
    sample = [read[place] for place in sorted(set(np.linspace(0, len(read) - 1, SHOWN).astype(int).tolist()))]

    def bars(row):
        yield f'<b>{_short(names[row.label])}</b>'
        for label, probability in zip(row.classes, row.probabilities, strict=True):
            kind = 'guess right' if label == row.label else 'guess'
            share = f'{100 * probability:.1f}%'
            yield (
                f'<div class="{kind}"><i style="width:{share}"></i><span>{_short(names[label])}</span>'
                f'<span>{share}</span></div>'
            )

    pictures = [(_picture(source, row, config), '\n'.join(bars(row))) for row in sample]
    grid = f'<div class="wide">{markup.grid(pictures)}</div>'
    return f'<p>{len(sample)} images, evenly spaced in the split; the bar of the right class is orange.</p>\n{grid}'


def _short(name):
    """Return the first of a class's names as HTML."""
    return text(classes.short_name(name))


def _picture(source, row, config):
    pixels = source[row.index].image
    if isinstance(pixels, bytes):
        pixels = geometry.decode(pixels, config.channels)
    return markup.picture(pixels, Path(row.name).name)


def _filters(parameters):
    """Return the first layer's kernels, as in the figure `filters`."""
    try:
        name, kernels = filters.first_kernels(parameters)
    except UserError as error:
        return f'<p>{text(error)}</p>'
    mosaic = (255 * filters.mosaic(filters.scaled(kernels))).round().astype(np.uint8)
    zoom = max(1, min(12, 900 // mosaic.shape[1]))
    size = '×'.join(map(str, kernels.shape[:3]))
    legend = f'{kernels.shape[3]} kernels of {size}, {name}; gray is 0, each kernel is scaled to its own range.'
    return f'<p>{text(legend)}</p>\n{markup.enlarged(mosaic, legend, zoom)}'
