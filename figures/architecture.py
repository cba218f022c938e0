"""A network as the chain of its blocks: what each does, how often, the size of its output, its parameters.

The chain is found by tracing the module (`architectures.dataflow`). Equal blocks in a row are drawn once, and so are
equal convolutions of a long network. Norms and activations of the convolutions are counted, not drawn.
"""

import itertools
import math
from collections import Counter
from typing import NamedTuple

from architectures import dataflow
from figures import networks, style

_LONG = 16  # items: of longer chains equal convolutions in a row are one
_HIGH = 6.2  # inches of a column, about that of a slide
_SIZE, _LINE = 11, 0.215
_ARROW, _TURN, _LANE = 0.44, 0.4, 0.22  # below an item; for the round node at its foot; to a line beside it
_CARD = 0.06  # from a box to the next behind it, of repeated ones
_HIDDEN = (*dataflow.NORMS, *(kind for kind in dataflow.ACTIVATIONS if kind != 'sigmoid'))


class Item(NamedTuple):
    """A box of the chain.

    Fields:
      name: of the module, or of the layer.
      kind: of its colour, see `dataflow.Node`; 'block' is more than one layer.
      lines: what it does; of a concatenation a branch each.
      notes: what the first of repeated ones has besides.
      count: how often it is in a row.
      shape: (H, W, C) of its output.
      parameters: trainable scalars of all of them.
      join: what its branches meet in, or ''.
      skip: whether one of those branches leaves its input as it is, or only changes its shape.
    """

    name: str
    kind: str
    lines: tuple
    notes: tuple
    count: int
    shape: tuple
    parameters: int
    join: str = ''
    skip: bool = False


def make(out, arch='', config=None, checkpoint=()):
    """Draws a network.

    Args:
      out: the file.
      arch, config, checkpoint: see `networks.subject`.
    """
    of = networks.subject(arch, config, checkpoint)
    graph = networks.graph(of)
    parameters = sum(node.parameters for node in graph.nodes)
    title = f'{of.title}\n{parameters:,} parameters, images of {networks.by(of.image_shape)}'
    with style.look():
        style.save(draw(items(graph), of.image_shape, title, _not_drawn(graph)), out)


def items(graph):
    """The chain of a network: a list of `Item`.

    Raises:
      ValueError: the network is no chain of layers and blocks.
    """
    nodes = graph.nodes
    elements = dataflow.sequence([node.inputs for node in nodes])
    found = []
    for top, run in itertools.groupby(elements, key=lambda element: _scope(nodes, element)[:1]):
        run = list(run)
        if top:
            parts = _parts(nodes, top, run)
            found += _repeated(top[0], [_item(nodes, part, top[0], strides=len(parts) == 1) for part in parts])
            continue
        for element in run:
            if isinstance(element, int) and nodes[element].kind in _HIDDEN and found and found[-1].kind != 'block':
                found[-1] = _with(found[-1], nodes[element])
            else:
                found.append(_item(nodes, [element], nodes[element].name if isinstance(element, int) else ''))
    return found if len(found) <= _LONG else _convolutions_folded(found)


def _scope(nodes, element):
    """The path of the module that all of an element is in."""
    scopes = [nodes[index].scope for index in _indices(element)]
    return tuple(
        same[0] for same in itertools.takewhile(lambda names: len(set(names)) == 1, zip(*scopes, strict=False))
    )


def _indices(element):
    """Return the nodes of an element of a sequence."""
    if isinstance(element, int):
        return [element]
    return [index for branch in element.branches for inner in branch for index in _indices(inner)] + [element.join]


def _parts(nodes, top, run):
    """What a module at the top consists of: of one without layers of its own its blocks, of another all at once."""
    inside = [nodes[index] for element in run for index in _indices(element)]
    if any(node.scope == top and node.parameters for node in inside):
        return [run]
    parts = []
    for scope, part in itertools.groupby(run, key=lambda element: _scope(nodes, element)[:2]):
        part = list(part)
        parts += [part] if len(scope) > 1 else [[element] for element in part]
    return parts


def _item(nodes, part, name, strides=True):
    """Return the item of a sequence; `strides`: whether strides are part of its lines or of its notes."""
    indices = [index for element in part for index in _indices(element)]
    shape, parameters = nodes[indices[-1]].shape, sum(nodes[index].parameters for index in indices)
    drawn = [index for index in indices if nodes[index].kind not in _HIDDEN] or indices[:1]
    if len(drawn) == 1 and not nodes[drawn[0]].scope:
        (only,) = drawn
        return Item(name, nodes[only].kind, (networks.words(nodes[only]),), (), 1, shape, parameters)
    split = next((element for element in part if isinstance(element, dataflow.Parallel)), None)
    join = nodes[split.join].kind if split else ''
    notes, skip = [], False
    if join == 'concat' and all(split.branches):
        lines = [' → '.join(_chain(nodes, branch, strides)) for branch in split.branches]
    else:
        lines = _wrapped(_chain(nodes, part, strides))
        skip = join in ('add', 'concat')
        stride = max(nodes[index].stride for index in indices)
        if stride > 1 and not strides:
            notes.append(f'stride {stride}')
        others = [_chain(nodes, branch, False) for branch in _others(split) if branch] if skip else []
        notes += [f'shortcut {" → ".join(other)}' for other in others]
    return Item(name, 'block', tuple(lines), tuple(notes), 1, shape, parameters, join, skip)


def _longest(split):
    return max(split.branches, key=lambda branch: sum(len(_indices(element)) for element in branch))


def _others(split):
    longest = _longest(split)
    return [branch for branch in split.branches if branch is not longest]


def _chain(nodes, elements, strides):
    """Describe the layers of a sequence, in the longest branch where it has branches; a gate is in brackets."""
    found = []
    for element in elements:
        if isinstance(element, dataflow.Parallel):
            inner = _chain(nodes, _longest(element), strides)
            found += [f'×({" → ".join(inner)})'] if nodes[element.join].kind == 'multiply' else inner
        elif nodes[element].kind not in _HIDDEN:
            found.append(networks.words(nodes[element], brief=True, stride=strides))
    return found


def _wrapped(chain):
    """The lines of a chain: a gate begins a new one."""
    rows = [[]]
    for word in chain:
        if word.startswith('×('):
            rows.append([])
        rows[-1].append(word)
    return [' → '.join(row) for row in rows if row]


def _with(item, node):
    """An item and the norm or activation behind it."""
    lines = (*item.lines, node.kind) if node.kind == 'LRN' else item.lines
    return item._replace(lines=lines, parameters=item.parameters + node.parameters)


def _repeated(name, parts):
    """The items of a stage, equal ones in a row as one."""
    found = []
    for _, run in itertools.groupby(parts, key=lambda item: (item.lines, item.join, item.shape[:2])):
        run = list(run)
        notes = run[0].notes
        if any(item.notes != notes for item in run):
            notes = (f'first: {", ".join(notes)}',)
        merged = _merged(run)
        found.append(merged._replace(name=name, notes=notes))
    return found


def _convolutions_folded(chain):
    """The chain where equal convolutions in a row are one item."""
    found = []
    for (kind, *_), run in itertools.groupby(chain, key=lambda item: (item.kind, item.lines, item.shape)):
        run = list(run)
        if kind == 'convolution' and len(run) > 1:
            run = [_merged(run)._replace(name=f'{run[0].name} to {run[-1].name}')]
        found += run
    return found


def _merged(run):
    """One item in place of equal ones in a row."""
    parameters = sum(item.parameters for item in run)
    return run[0]._replace(count=len(run), shape=run[-1].shape, parameters=parameters)


def _not_drawn(graph):
    """How many norms and activations there are, in words."""
    counts = Counter(node.kind for node in graph.nodes if node.kind in _HIDDEN)
    return (
        f'Norms and activations, in all: {", ".join(f"{n:,} {kind}" for kind, n in counts.items())}.' if counts else ''
    )


# On the page


def columns(heights, high):
    """Which items stand in which column: as few columns as are no higher than this, and as even as can be."""
    count = math.ceil(sum(heights) / high)
    limit = max(*heights, sum(heights) / count)
    while True:
        found, left = [[]], limit
        for index, height in enumerate(heights):
            if height > left + 1e-9:
                found.append([])
                left = limit
            found[-1].append(index)
            left -= height
        if len(found) <= count:
            return found
        limit += 0.05


def _rows(item):
    """The texts of an item: (text, size, weight, colour)."""
    rows = [(item.name, _SIZE, 'bold', 'black')]
    rows += [(text, _SIZE, 'normal', 'black') for text in item.lines]
    rows += [(text, _SIZE - 1, 'normal', 'black') for text in item.notes]
    if item.parameters:
        rows.append((f'{item.parameters:,} parameters', _SIZE - 1, 'normal', networks.GREY))
    return rows


def _size(item):
    """(width, height) of an item's box."""
    widths = [networks.text_width(text, size, weight == 'bold') for text, size, weight, _ in _rows(item)]
    if item.count > 1:
        widths[0] += networks.text_width(f'   × {item.count}', _SIZE + 2, True)
    return max(widths) + 0.3, _LINE * len(_rows(item)) + 0.14


def _foot(item):
    """Inches from a box to where its output leaves it: a round node, or the boxes behind it."""
    return _TURN if item.join else 2 * _CARD * (item.count > 1)


def draw(chain, entry, title, footer):
    """The figure of a chain; made inside `style.look`."""
    sizes = [_size(item) for item in chain]
    heights = [size[1] + _foot(item) + _ARROW for size, item in zip(sizes, chain, strict=True)]
    standing = columns(heights, _HIGH)
    widths = [max(sizes[index][0] for index in column) for column in standing]
    between, head, foot = 0.75, 1.15, 0.6
    wanted = max(networks.text_width(row, 15) for row in title.splitlines())
    width = max(sum(widths) + between * (len(widths) - 1), wanted, networks.text_width(footer, 10)) + 1.0
    high = max(sum(heights[index] for index in column) for column in standing)
    made, axes = networks.canvas(width, high + head + foot, title)
    left = (width - sum(widths) - between * (len(widths) - 1)) / 2
    out = None
    for column, wide in zip(standing, widths, strict=True):
        x, top = left + wide / 2, high + foot
        for place, index in enumerate(column):
            if out and place == 0:
                aside, above = left - between * 0.45, top + 0.3
                networks.line(axes, [*out, (aside, out[-1][1]), (aside, above), (x, above), (x, top)])
            elif out:
                networks.line(axes, [out[0], (x, top)])
            else:
                networks.line(axes, [(x, top + 0.3), (x, top)])
                axes.text(x + 0.08, top + 0.3, networks.by(entry), fontsize=_SIZE - 1, va='top')
            below = _draw_item(axes, chain[index], x, top, wide, sizes[index][1])
            axes.text(x + 0.08, below - 0.06, networks.by(chain[index].shape), fontsize=_SIZE - 1, va='top')
            top -= heights[index]
            out = [(x, below), (x, below - _ARROW + 0.1)]
        left += wide + between
    networks.line(axes, out)
    axes.text(width / 2, 0.2, footer, fontsize=10, ha='center', color=networks.GREY)
    return made


def _draw_item(axes, item, x, top, wide, high):
    """Draws an item below `top` about x; returns where its output leaves it."""
    for behind in range(2 if item.count > 1 else 0, 0, -1):
        networks.box(axes, x - wide / 2 + _CARD * behind, top - high - _CARD * behind, wide, high, item.kind)
    networks.box(axes, x - wide / 2, top - high, wide, high, item.kind)
    for place, (text, size, weight, tint) in enumerate(_rows(item)):
        y = top - 0.07 - _LINE * (place + 0.5)
        axes.text(x - wide / 2 + 0.15, y, text, fontsize=size, weight=weight, color=tint, va='center_baseline')
    if item.count > 1:
        y = top - 0.07 - _LINE * 0.5
        bold = {'fontsize': _SIZE + 2, 'weight': 'bold'}
        axes.text(x + wide / 2 - 0.15, y, f'× {item.count}', ha='right', va='center_baseline', **bold)
    if not item.join:
        return top - high - _foot(item)
    y, radius = top - high - _TURN + 0.14, networks.joint_size(item.join)
    networks.joint(axes, x, y, item.join)
    networks.line(axes, [(x, top - high), (x, y + radius[1] / 2)], arrow=False)
    if item.skip:
        lane = x + wide / 2 + _LANE
        networks.line(axes, [(x, top + 0.17), (lane, top + 0.17), (lane, y), (x + radius[0] / 2, y)])
    return y - radius[1] / 2
