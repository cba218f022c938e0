"""The list of networks, and the layers of one network, as data and as text. Networks are traced, not run."""

import fnmatch
import functools
import math
import textwrap
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

import architectures
import papers
from architectures import layers, receptive_field, stages
from architectures.catalogue import NETWORKS, OWN, file_of, line_of
from runtime.errors import UserError, first_line, nearest

LEGEND = (
    'Parameters include those of a batch norm or PReLU. Field: side, in pixels, of the receptive field, padding '
    'included; "all" is the whole image. Stride: pixels from one output to the next.'
)
ROOT = Path(__file__).parents[1]
COUNTS = ('parameters', 'statistics', 'multiply_adds')


class Layer(NamedTuple):
    """A layer of a network.

    Fields:
      name: path of its module, or the network's name for an activation that belongs to no module.
      output_shape: (H, W, C); a vector is 1x1.
      kernel_shape: (rows, columns, inputs, outputs) or (inputs, outputs) of its weights, or None.
      parameters: trainable scalars, including its batch norm's (two per channel) or PReLU's (one per channel).
      statistics: scalars of the running means and variances of its batch norm.
      multiply_adds: size of the kernel times the number of positions where it is applied.
      receptive_field: side of the receptive field in pixels, padding included; None is the whole image.
      stride: pixels between the receptive fields of neighboring outputs; None if there is only one output.
    """

    name: str
    output_shape: tuple
    kernel_shape: tuple | None
    parameters: int
    statistics: int
    multiply_adds: int
    receptive_field: int | None
    stride: int | None


def networks(pattern='*'):
    """Describe the networks that match a pattern, as dictionaries for JSON, one at a time.

    The counts come from the trace. `catalogue` has the numbers in NETWORKS that disagree with them, and `missing` says
    what a new network still lacks.

    Args:
      pattern: network names, with shell wildcards.

    Raises:
      UserError: no network matches.
    """
    names = fnmatch.filter(architectures.names(), pattern)
    if not names:
        close = nearest(pattern.strip('*?'), architectures.names())
        raise UserError(f'no architecture matches {pattern!r}{close} `python -m architectures` lists them.')
    return map(_counted, names)


def _counted(name):
    entry = network(name)
    del entry['layers'], entry['options']
    return entry


def _other_counts(name, counts):
    """Return {count: number} of the network's entry in NETWORKS where it disagrees with the counts of the trace."""
    expected = {count: getattr(NETWORKS[name], count) for count in counts}
    return {count: number for count, number in expected.items() if number not in (None, counts[count])}


def _mismatches(entry):
    """Yield a sentence for each number of `catalogue`."""
    for count, expected in entry['catalogue'].items():
        table = f'NETWORKS of {file_of(entry["name"])}'
        yield f'mismatch: {table} has {expected:,} {count}, the network has {entry[count]:,}'


def missing(name, counts):
    """Yield a sentence for each thing that a network still lacks: facts in its table, a recipe, a published row.

    Args:
      name: one of `architectures.names()`.
      counts: {count: number} of the traced network, to report where its table has none; {} for non-default options.
    """
    if name in OWN:  # its facts are optional
        return
    entry, table = NETWORKS[name], f'NETWORKS of {file_of(name)}'
    for fact in ('paper', 'family', 'parameters', 'multiply_adds'):
        if not getattr(entry, fact):
            number = f'; the network has {counts[fact]:,}' if fact in counts else ''
            yield f'{name} has no {fact} in {table}{number}'
    if not (ROOT / 'configs' / f'{name}.py').is_file():
        yield f'{name} has no recipe: configs/{name}.py'
    if name not in papers.HEADLINES and not entry.unpublished:
        yield (
            f'{name} has no published error: mark its row in papers/ with "! {name}: HOW IT WAS TESTED", or say '
            f'unpublished=True in {table}'
        )


def network(name, options=None, image_size=None):
    """Describe one network with these options: a dictionary as of `networks`, with its `layers`.

    Args:
      name: one of `architectures.names()`.
      options: options of `architectures.create`.
      image_size: side of the images, to which the network is then applied densely; None is the paper's size.

    Raises:
      UserError: the name, an option or its value is invalid, or the images are too small.
    """
    options = options or {}
    changes = ', '.join(f'{key}={value!r}' for key, value in options.items())
    try:
        model, known = architectures.create(name, **options), NETWORKS[name]
        rows, columns, channels = known.input_shape
        if image_size is not None:
            rows = columns = image_size
            changes += f'{", " if changes else ""}images of {rows}x{columns}'
        traced = layers_of(model, (rows, columns, channels), dense=image_size is not None)
    except UserError:
        raise
    except Exception as error:  # Flax and JAX raise various errors for an invalid value
        changes = changes or f'images of {_by(known.input_shape)}'
        reason = f'{type(error).__name__}: {first_line(error)}{line_of(error)}'
        raise UserError(f'{name} does not work with {changes} ({reason})') from error
    empty = next((layer.name for layer in traced if min(layer.output_shape) < 1), None)
    if empty:
        raise UserError(f'{name} does not work with {changes}: the output of {empty} is empty')
    published = papers.HEADLINES.get(name)
    counts = {count: sum(getattr(layer, count) for layer in traced) for count in COUNTS}
    return {
        'name': name,
        'year': known.year,
        'paper': str(known.paper or ''),
        'input_shape': (rows, columns, channels),
        'num_classes': model.num_classes,
        'differs': known.differs,
        'published': published and published._asdict(),
        'missing': tuple(missing(name, {} if changes else counts)),
        'catalogue': {} if changes else _other_counts(name, counts),
        'options': options,
        **counts,
        'layers': [layer._asdict() for layer in traced],
    }


def layers_of(model, image_shape, dense=False):
    """Return the layers of a network, in the order in which they run.

    These are the modules with parameters, and the other activations that the network names.

    Args:
      model: a network of `architectures.create`.
      image_shape: (H, W, C).
      dense: as in `layers.Network`.

    Returns:
      A list of `Layer`.
    """
    model = stages.unrolled(model)
    calls, outputs, named = [], [], []

    def visit(module, arguments, output):
        calls.append((module.path, _direct_variables(module, 'params'), _direct_variables(module, 'batch_stats')))
        outputs.append(output)

    def forward(images):
        options = {'train': False, 'dense': dense, 'rngs': {'params': jax.random.key(0)}}
        with layers.on_call(visit):
            _, state = model.apply({}, images, mutable=['params', 'batch_stats', 'activations'], **options)
        named.extend(state['activations'])
        return outputs + list(state['activations'].values())

    with layers.plain_forms():
        closed = jax.make_jaxpr(forward)(jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    fields = receptive_field.fields(closed, [receptive_field.IMAGE])
    order = {variable: at for at, equation in enumerate(closed.eqns) for variable in equation.outvars}
    traced = [(order[v], v.aval.shape, field) for v, field in zip(closed.jaxpr.outvars, fields, strict=True)]
    parts = {}
    for (path, params, statistics), output in zip(calls, traced[: len(calls)], strict=True):
        if params:
            name = '/'.join(path).removesuffix('_bn').removesuffix('_prelu')
            parts.setdefault(name, []).append(_Part(params, statistics, *output))
    for name, output in zip(named, traced[len(calls) :], strict=True):
        parts.setdefault(name, [_Part({}, {}, *output)])
    return [_layer(name, parts[name]) for name in sorted(parts, key=lambda name: parts[name][-1].position)]


class _Part(NamedTuple):
    """A part of a layer: a convolution, its batch norm or its PReLU; or a bare activation."""

    params: dict
    statistics: dict
    position: int  # of the operation that computes the output, in the jaxpr
    shape: tuple
    field: receptive_field.Field


def _direct_variables(module, collection):
    """Return the variables of a module without those of its submodules."""
    return {name: leaf for name, leaf in module.variables.get(collection, {}).items() if hasattr(leaf, 'shape')}


def _layer(name, parts):
    kernel, multiply_adds = None, 0
    for part in parts:
        if 'kernel' in part.params:
            kernel = part.params['kernel'].shape
            multiply_adds = math.prod(kernel) * math.prod(part.shape[1:-1])
    last = parts[-1]
    output_shape = last.shape[1:] if len(last.shape) > 2 else (1, 1, last.shape[1])
    return Layer(
        name=name,
        output_shape=output_shape,
        kernel_shape=kernel,
        parameters=sum(leaf.size for part in parts for leaf in part.params.values()),
        statistics=sum(leaf.size for part in parts for leaf in part.statistics.values()),
        multiply_adds=multiply_adds,
        receptive_field=None if last.field.size == math.inf else last.field.size,
        stride=last.field.stride if output_shape[0] > 1 else None,
    )


# As text


_RIGHT = (False, False, False, True, True, False)


def table(entries, width=math.inf):
    """Yield the lines of a table of what `networks` returns, one network at a time.

    Args:
      entries: the networks.
      width: characters of a line; on a narrow terminal a network has two lines.
    """
    names = architectures.names()
    widths = [max(map(len, names)), max(len(NETWORKS[name].cited) for name in names), 9, 13, 15, 0]
    is_narrow = width < sum(widths) + 2 * len(widths) + max(len(row.brief) for row in papers.HEADLINES.values())
    first = [widths[0], *widths[2:5]], [False, *_RIGHT[2:5]]

    def lines(name, paper, size, parameters, multiply_adds, error):
        if not is_narrow:
            return [_line([name, paper, size, parameters, multiply_adds, error], widths, _RIGHT)]
        error = f'; published, %: {error}' if error else ''
        return [_line([name, size, parameters, multiply_adds], *first), f'  {paper}{error}']

    head = lines('name', 'paper', 'input', 'parameters', 'multiply-adds', '' if is_narrow else 'published error, %')
    yield from head[:1]
    for entry in entries:
        known, published = NETWORKS[entry['name']], papers.HEADLINES.get(entry['name'])
        counts = [f'{entry[count]:,}' for count in ('parameters', 'multiply_adds')]
        brief = published.brief if published else ''
        yield from lines(entry['name'], known.cited, _by(entry['input_shape']), *counts, brief)
        yield from (f'  {sentence}' for sentence in (*_mismatches(entry), *entry['missing']))


def text(entry, width=math.inf):
    """Format what `network` returns as text, in lines of at most `width` characters if possible."""
    rows = []
    for layer in entry['layers']:
        shapes = _by(layer['output_shape']), _by(layer['kernel_shape'] or ())
        counts = [f'{layer[count]:,}' if layer[count] else '' for count in ('parameters', 'multiply_adds')]
        field = 'all' if layer['receptive_field'] is None else layer['receptive_field']
        rows.append([layer['name'], *shapes, *counts, field, layer['stride'] or ''])
    rows.append(['total', '', '', f'{entry["parameters"]:,}', f'{entry["multiply_adds"]:,}', '', ''])
    options = ''.join(f', {option}={value!r}' for option, value in entry['options'].items())
    published = papers.HEADLINES.get(entry['name'])
    notes = [LEGEND, '']
    if entry['statistics']:
        notes.append(f'Running means and variances, not counted above: {entry["statistics"]:,}.')
    notes.append(f'Paper: {entry["paper"] or "none"}.')
    if published:
        defaults = ' with the default options' if entry['options'] else ''
        notes.append(f'Published error, %{defaults}: {published}.')
    if entry['differs']:
        notes += ['Elsewhere:', *(f'- {sentence}' for sentence in entry['differs'])]
    if entry['missing']:
        notes += ['Missing:', *(f'- {sentence}' for sentence in entry['missing'])]
    if entry['catalogue']:
        notes += ['Wrong:', *(f'- {sentence}' for sentence in _mismatches(entry))]
    head = ['layer', 'output', 'kernel', '>parameters', '>multiply-adds', '>field', '>stride']
    columns = _columns(head, rows)
    if len(columns.partition('\n')[0]) > width:  # without the kernels
        columns = _columns(head[:2] + head[3:], [row[:2] + row[3:] for row in rows])
    parts = [f'{entry["name"]}{options}: images of {_by(entry["input_shape"])}', '', columns, '']
    fill = functools.partial(textwrap.fill, width=min(110, width), subsequent_indent='  ', break_on_hyphens=False)
    return '\n'.join(parts + [fill(note) for note in notes])


def _by(sizes):
    return 'x'.join(map(str, sizes))


def _columns(head, rows):
    """Format rows in columns below a header; '>' before a title aligns its column right."""
    right = [title.startswith('>') for title in head]
    cells = [[str(cell) for cell in row] for row in ([title.lstrip('>') for title in head], *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return '\n'.join(_line(row, widths, right) for row in cells)


def _line(row, widths, right):
    """Format cells in columns of these widths, some aligned right."""
    cells = [f'{cell:>{w}}' if align else f'{cell:{w}}' for cell, w, align in zip(row, widths, right, strict=True)]
    return '  '.join(cells).rstrip()
