"""All that is known of a run or of converted weights on one page, which opens without a network."""

import json
import shlex
import string
from pathlib import Path

import jax
import numpy as np
from matplotlib.ticker import MaxNLocator

import evaluation
from configs import base, listing
from configs import checkpoint as checkpoint_config
from evaluation import label_sets, results
from evaluation import report as words
from figures import filters, markup, style
from figures.markup import text
from figures.opened import open_one
from input_pipeline import classes, datasets, geometry
from input_pipeline.progress import bar
from runtime.errors import UserError
from runtime.files import write_atomically
from training import checkpoints, log

_TEMPLATE = Path(__file__).with_name('report.html')
PAIRS, WRONG, SHOWN = 20, 48, 8  # confused pairs, wrong images and predictions on the page


def make(out, config, checkpoint, step='best'):
    """Writes the page.

    Args:
      out: the file, .html.
      config, checkpoint, step: see `figures.opened.open_one`. Where the config's data is not there the page says so;
        where it was named on the command line that is an error.
    """
    markup.check(out, 'report')
    opened = open_one(config, checkpoint, step)
    workdir = Path(checkpoints.locate(checkpoint[0])[0]).parent
    again = shlex.join(['python', 'visualize.py', 'report', '--checkpoint', checkpoint[0], '--out', Path(out).name])
    parts = [
        ('Network', _network(opened.member) + (passport(opened.card) if opened.card else '')),
        ('Curves', curves(log.read(workdir), config, opened.card)),
        *tested(config, opened.entry, _missing(config, checkpoint[0], again)),
        ('Filters', _filters(opened.member.variables['params'])),
        ('Config', _recipe(config)),
    ]
    write_atomically(out, page(opened.title, parts).encode())


def page(title, parts):
    """The page, HTML, of [(heading, HTML)] under a title."""
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


# What it is


def passport(card):
    """What a passport (`weights.passport`) says."""
    source = card['source']
    pairs = [
        ('weights', f'{source["name"]}, as {source["release"]} releases them'),
        ('file', source['file']),
        ('SHA-256', source['sha256']),
        ('licence of the weights', card['licence'] or 'not told'),
        ('classes', card['classes']),
        *(('note', note) for note in card['notes']),
    ]
    checked = (
        f'<p>The network answers the probe image as the passport says, in all its {len(card["probe"])} layers '
        '(checked when this page was made).</p>'
    )
    return markup.facts(pairs, 'Passport: whose weights these are') + checked


def _recipe(config):
    """What a config says other than `configs/base.py` does."""
    plain = _flat(base.get_config())
    own = _flat(config)
    pairs = [(key, _value(value)) for key, value in own.items() if value != plain.get(key)]
    whole = json.dumps(json.loads(config.to_json_best_effort()), indent=2, sort_keys=True)
    return (
        f'{markup.facts(pairs, "What it changes of configs/base.py")}\n'
        f'<details><summary>All keys</summary><pre>{text(whole)}</pre></details>'
    )


def _network(member):
    """The size of a network and what it takes."""
    config, count = member.config, sum(leaf.size for leaf in jax.tree.leaves(member.variables['params']))
    size = f'{config.image_size}×{config.image_size}'
    low, high = config.pixel_range
    pixels = {
        'range': f'grey levels 0 to 255 become {low:g} to {high:g}',
        'constant': f'mean {config.mean}, standard deviation {config.std}',
    }.get(config.normalize, f'normalised by {config.normalize.replace("_", " ")}')
    pairs = [
        ('network', config.architecture),
        ('options', _value(dict(config.architecture_options)) or 'the default ones'),
        ('parameters', f'{count:,}'),
        ('input', f'{size}, {"colour" if config.channels == 3 else "grey"}; {pixels}'),
        ('classes', config.num_classes),
    ]
    return markup.facts(pairs, 'What it is')


def _flat(config):
    """{'key.inner': value} of a config."""
    found = {}
    for key, value in config.items():
        inner = _flat(value) if hasattr(value, 'items') else None
        found |= {key: value} if inner is None else {f'{key}.{name}': below for name, below in inner.items()}
    return found


def _value(value):
    if isinstance(value, dict):
        return ', '.join(f'{key}={_value(inner)}' for key, inner in value.items())
    if isinstance(value, tuple | list):
        return ', '.join(f'({_value(inner)})' if isinstance(inner, tuple) else str(inner) for inner in value)
    return value


# How it was trained


def curves(rows, config, card):
    """The errors, the loss and the rate of a run's log (`training.log.read`), epoch by epoch."""
    epochs = [row for row in rows if row['kind'] == 'epoch']
    if not epochs:
        name = config.architecture if config.architecture in listing.names() else 'NAME'
        why = 'These weights were converted: no run is known.' if card else 'The run has no epoch in its metrics.jsonl.'
        command = f'python train.py --config configs/{name}.py --config.data_dir=FOLDER'
        return _note(f'{why} A run here makes curves:', command)
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
    """The curves of the lines of epochs, an <svg>."""
    places = [row['epoch'] for row in epochs]
    panels = {
        'error, %': (('training', 'train_error'), ('test, top-1', 'test_top1_error')),
        'loss': (('training', 'train_loss'), ('test', 'test_loss')),
        'learning rate': (('', 'learning_rate'),),
    }
    with style.look():
        made = style.figure(12, 4)
        for axes, (title, lines) in zip(made.subplots(1, 3), panels.items(), strict=True):
            for (label, key), form in zip(lines, ('o--', 's-'), strict=False):
                axes.plot(places, [row[key] for row in epochs], form, label=label, markersize=4)
            axes.set_xlabel('epoch')
            axes.set_title(title)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
            if len(lines) > 1:
                axes.set_ylim(bottom=0)
                axes.legend()
            else:
                axes.set_yscale('log')
        return style.svg(made)


# How it does


def _missing(config, checkpoint, again):
    """Why the test images are not there, with what to do, HTML; '' where they are.

    Raises:
      UserError: they are not where the command line says.
    """
    try:
        datasets.open_split(config, config.test_split, any_classes=True)
    except UserError as error:
        try:
            kept = checkpoint_config.get_config(checkpoint).data_dir
        except ValueError:  # no config lies there: the command line names one
            kept = ''
        if config.data_dir not in ('', kept):
            raise
        return _note(f'Nothing was tested: {error}. With the test images:', f'{again} --config.data_dir=FOLDER')
    return ''


def _note(why, command):
    return f'<p class="missing">{text(why)}<br><code>{text(command)}</code></p>'


def tested(config, entry, missing=''):
    """The sections on the config's test images: [(heading, HTML)].

    Args:
      config: whose data it is.
      entry: of `evaluation.open_checkpoint`.
      missing: HTML in place of all, where there are no images.
    """
    if missing:
        return [('Test error', missing)]
    source = datasets.open_split(config, config.test_split, any_classes=True)
    with bar(config.architecture, len(source)) as progress:
        labels = label_sets.fitting(source, entry.member.class_names)
        result, rows, names = evaluation.test(config, entry, labels=labels, progress=progress)
    found = results.details(rows, names)
    return [
        ('Test error', _error(config, entry, result, source)),
        ('Classes', _classes(found['classes'], found['confusions'])),
        ('Wrong images', _wrong(source, rows, names, config)),
        ('Predictions', _predictions(source, rows, names, config)),
    ]


def _error(config, entry, result, source):
    low, high = result['top1_interval']
    total = result['num_examples']
    protocol = entry.member.protocol
    fifth = f'{result["top5_error"]:.2f}% ({result["wrong_top5"]:,} wrong; 95%: {_interval(result["top5_interval"])})'
    pairs = [
        ('top-5 error', fifth),
        ('images', f'{total:,}, {config.dataset}/{config.test_split}'),
        *([('labels', result['labels'])] if result['labels'] else []),
        ('protocol', f'{protocol.name}: {protocol.what}'),
        ('loss', '-' if result['loss'] is None else f'{result["loss"]:.4f}'),
        *([('cannot be read, counted as wrong', f'{result["bad_images"]:,}')] if result['bad_images'] else []),
        *(line.split(': ', 1) for line in words.beside(config, [entry], result)),
    ]
    flattered = (
        "<p>Of the run's checkpoints this is the best by test error, which flatters; "
        '<code>--step latest</code> takes the last.</p>'
        if entry.chosen == 'best' and not entry.card
        else ''
    )
    return (
        f'<p class="error">{result["top1_error"]:.2f}%</p>\n<p>top-1: {result["wrong_top1"]:,} of {total:,} wrong, 95% '
        f'interval {low:.2f} to {high:.2f}%</p>\n{markup.facts(pairs, "The test")}\n{flattered}'
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
    """The images whose best class is wrong, those first of which the network was most sure."""
    wrong = [row for row in rows if row.counts and row.rank > 0]
    if not wrong:
        return '<p>There is none.</p>'
    wrong.sort(key=lambda row: (-row.probabilities[0], row.index))
    pictures = [
        (
            _picture(source, row, config),
            f'{_short(names[row.label])} → <b>{_short(names[row.classes[0]])}</b> {100 * row.probabilities[0]:.0f}%',
        )
        for row in wrong[:WRONG]
    ]
    which = f'{len(pictures)} of {len(wrong):,}' if len(pictures) < len(wrong) else f'All {len(wrong):,}'
    return f'<p>{which}, those first of which it was most sure: true class → its answer.</p>\n{markup.grid(pictures)}'


def _predictions(source, rows, names, config):
    """Images from all of the split with the five best classes, the right one in another colour."""
    read = [row for row in rows if row.counts and row.rank >= 0]
    chosen = [read[place] for place in sorted(set(np.linspace(0, len(read) - 1, SHOWN).astype(int).tolist()))]

    def bars(row):
        yield f'<b>{_short(names[row.label])}</b>'
        for label, probability in zip(row.classes, row.probabilities, strict=True):
            kind = 'guess right' if label == row.label else 'guess'
            share = f'{100 * probability:.1f}%'
            yield (
                f'<div class="{kind}"><i style="width:{share}"></i><span>{_short(names[label])}</span>'
                f'<span>{share}</span></div>'
            )

    pictures = [(_picture(source, row, config), '\n'.join(bars(row))) for row in chosen]
    grid = f'<div class="wide">{markup.grid(pictures)}</div>'
    return f'<p>{len(chosen)} images, evenly from the split; the right class has the orange bar.</p>\n{grid}'


def _short(name):
    """The first of a class's names, HTML."""
    return text(classes.short_name(name))


def _picture(source, row, config):
    pixels = source[row.index].image
    if isinstance(pixels, bytes):
        pixels = geometry.decode(pixels, config.channels)
    return markup.picture(pixels, Path(row.name).name)


def _filters(parameters):
    """The first layer's kernels, as in the figure `filters`."""
    try:
        name, kernels = filters.first_kernels(parameters)
    except UserError as error:
        return f'<p>{text(error)}</p>'
    mosaic = (255 * filters.mosaic(filters.scaled(kernels))).round().astype(np.uint8)
    zoom = max(1, min(12, 900 // mosaic.shape[1]))
    size = '×'.join(map(str, kernels.shape[:3]))
    legend = f'{kernels.shape[3]} kernels of {size}, {name}; grey is 0, each kernel by its own range.'
    return f'<p>{text(legend)}</p>\n{markup.enlarged(mosaic, legend, zoom)}'
