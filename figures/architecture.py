"""A network as a chain of blocks: operations, repetitions, output size and parameters of each.

The chain is found by tracing the module (`architectures.dataflow`). Consecutive equal blocks are drawn once, and so are
equal convolutions of a long network. Norms and activations of the convolutions are counted, not drawn.
"""

import itertools
import math
from collections import Counter
from typing import NamedTuple

from architectures import dataflow
from figures import networks, style

_LONG = 16  # in chains with more items, consecutive equal convolutions are merged
_HIGH = 6.2  # height of a column in inches, about that of a slide
_SIZE, _LINE = 11, 0.215
_ARROW, _TURN, _LANE = 0.44, 0.4, 0.22  # inches below an item; for the round node under it; to a line next to it
_CARD = 0.06  # inches by which the stacked boxes of a repeated item are shifted
_HIDDEN = (*dataflow.NORMS, *(kind for kind in dataflow.ACTIVATIONS if kind != 'sigmoid'))


class Item(NamedTuple):
    """A box of the chain.

    Fields:
      name: name of the module or layer.
      kind: see `dataflow.Node`, decides its color; 'block' for more than one layer.
      lines: its operations; for a concatenation, one line per branch.
      notes: what only the first of the repeated ones has.
      count: number of consecutive repetitions.
      shape: (H, W, C) of its output.
      parameters: trainable scalars, summed over the repetitions.
      join: kind of the node that joins its branches, or ''.
      skip: whether one of the branches is the identity or only changes the shape.
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
    """Draw a network.

    Args:
      out: path of the figure.
      arch, config, checkpoint: see `networks.subject`.
    """
    subject = networks.subject(arch, config, checkpoint)
    graph = networks.graph(subject)
    parameters = sum(node.parameters for node in graph.nodes)
    title = f'{subject.title}\n{parameters:,} parameters, images of {networks.by(subject.image_shape)}'
    with style.look():
        style.save(draw(items(graph), subject.image_shape, title, _not_drawn(graph)), out)


def items(graph):
    """Return the chain of a network, a list of `Item`.

    Raises:
      ValueError: if the network is not a chain of layers and blocks.
    """
    nodes = graph.nodes
    elements = dataflow.sequence([node.inputs for node in nodes])
    chain = []
    for top, run in itertools.groupby(elements, key=lambda element: _scope(nodes, element)[:1]):
        run = list(run)
        if top:
            parts = _parts(nodes, top, run)
            chain += _repeated(top[0], [_item(nodes, part, top[0], strides=len(parts) == 1) for part in parts])
            continue
        for element in run:
            if isinstance(element, int) and nodes[element].kind in _HIDDEN and chain and chain[-1].kind != 'block':
                chain[-1] = _with(chain[-1], nodes[element])
            else:
                chain.append(_item(nodes, [element], nodes[element].name if isinstance(element, int) else ''))
    return chain if len(chain) <= _LONG else _convolutions_folded(chain)


def _scope(nodes, element):
    """Return the path of the innermost module that contains an element."""
    scopes = [nodes[index].scope for index in _indices(element)]
    return tuple(
        same[0] for same in itertools.takewhile(lambda names: len(set(names)) == 1, zip(*scopes, strict=False))
    )


def _indices(element):
    """Return the indices of the nodes of an element of a sequence."""
    if isinstance(element, int):
        return [element]
    return [index for branch in element.branches for inner in branch for index in _indices(inner)] + [element.join]


def _parts(nodes, top, run):
    """Split a top-level module into its blocks; a module with layers of its own stays in one part."""
    inside = [nodes[index] for element in run for index in _indices(element)]
    if any(node.scope == top and node.parameters for node in inside):
        return [run]
    parts = []
    for scope, part in itertools.groupby(run, key=lambda element: _scope(nodes, element)[:2]):
        part = list(part)
        parts += [part] if len(scope) > 1 else [[element] for element in part]
    return parts


def _item(nodes, part, name, strides=True):
    """Return the item of a sequence; `strides` says whether strides are in its lines or in its notes."""
    indices = [index for element in part for index in _indices(element)]
    shape, parameters = nodes[indices[-1]].shape, sum(nodes[index].parameters for index in indices)
    drawn = [index for index in indices if nodes[index].kind not in _HIDDEN] or indices[:1]
    if len(drawn) == 1 and not nodes[drawn[0]].scope:
        (only,) = drawn
        return Item(name, nodes[only].kind, (networks.describe(nodes[only]),), (), 1, shape, parameters)
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
        shortcuts = [_chain(nodes, branch, False) for branch in _shortcuts(split) if branch] if skip else []
        notes += [f'shortcut {" → ".join(shortcut)}' for shortcut in shortcuts]
    return Item(name, 'block', tuple(lines), tuple(notes), 1, shape, parameters, join, skip)


def _longest(split):
    return max(split.branches, key=lambda branch: sum(len(_indices(element)) for element in branch))


def _shortcuts(split):
    longest = _longest(split)
    return [branch for branch in split.branches if branch is not longest]


def _chain(nodes, elements, strides):
    """Return the texts of the layers of a sequence, along its longest branch; a gate is in brackets."""
    texts = []
    for element in elements:
        if isinstance(element, dataflow.Parallel):
            inner = _chain(nodes, _longest(element), strides)
            texts += [f'×({" → ".join(inner)})'] if nodes[element.join].kind == 'multiply' else inner
        elif nodes[element].kind not in _HIDDEN:
            texts.append(networks.describe(nodes[element], brief=True, stride=strides))
    return texts


def _wrapped(chain):
    """Return the lines of a chain's texts; a gate begins a new line."""
    rows = [[]]
    for text in chain:
        if text.startswith('×('):
            rows.append([])
        rows[-1].append(text)
    return [' → '.join(row) for row in rows if row]


def _with(item, node):
    """Return an item with the norm or activation that follows it."""
    lines = (*item.lines, node.kind) if node.kind == 'LRN' else item.lines
    return item._replace(lines=lines, parameters=item.parameters + node.parameters)


def _repeated(name, parts):
    """Return the items of a stage, with consecutive equal ones merged."""
    items = []
    for _, run in itertools.groupby(parts, key=lambda item: (item.lines, item.join, item.shape[:2])):
        run = list(run)
        notes = run[0].notes
        if any(item.notes != notes for item in run):
            notes = (f'first: {", ".join(notes)}',)
        merged = _merged(run)
        items.append(merged._replace(name=name, notes=notes))
    return items


def _convolutions_folded(chain):
    """Return the chain with consecutive equal convolutions merged."""
    folded = []
    for (kind, *_), run in itertools.groupby(chain, key=lambda item: (item.kind, item.lines, item.shape)):
        run = list(run)
        if kind == 'convolution' and len(run) > 1:
            run = [_merged(run)._replace(name=f'{run[0].name} to {run[-1].name}')]
        folded += run
    return folded


def _merged(run):
    """Return one item that stands for a run of equal ones."""
    parameters = sum(item.parameters for item in run)
    return run[0]._replace(count=len(run), shape=run[-1].shape, parameters=parameters)


def _not_drawn(graph):
    """Return a sentence with the numbers of norms and activations, or ''."""
    counts = Counter(node.kind for node in graph.nodes if node.kind in _HIDDEN)
    return (
        f'Norms and activations in total: {", ".join(f"{n:,} {kind}" for kind, n in counts.items())}.' if counts else ''
    )


# Layout


def columns(heights, high):
    """Distribute items over as few columns as fit the height `high`, as evenly as possible."""
    count = math.ceil(sum(heights) / high)
    limit = max(*heights, sum(heights) / count)
    while True:
        filled, left = [[]], limit
        for index, height in enumerate(heights):
            if height > left + 1e-9:
                filled.append([])
                left = limit
            filled[-1].append(index)
            left -= height
        if len(filled) <= count:
            return filled
        limit += 0.05


def _rows(item):
    """Return the texts of an item: [(text, size, weight, color)]."""
    rows = [(item.name, _SIZE, 'bold', 'black')]
    rows += [(text, _SIZE, 'normal', 'black') for text in item.lines]
    rows += [(text, _SIZE - 1, 'normal', 'black') for text in item.notes]
    if item.parameters:
        rows.append((f'{item.parameters:,} parameters', _SIZE - 1, 'normal', networks.GRAY))
    return rows


def _size(item):
    """Return (width, height) of an item's box."""
    widths = [networks.text_width(text, size, weight == 'bold') for text, size, weight, _ in _rows(item)]
    if item.count > 1:
        widths[0] += networks.text_width(f'   × {item.count}', _SIZE + 2, True)
    return max(widths) + 0.3, _LINE * len(_rows(item)) + 0.14


def _foot(item):
    """Return the inches from a box to its output: room for a round node, or for the stacked boxes behind it."""
    return _TURN if item.join else 2 * _CARD * (item.count > 1)


def draw(chain, entry, title, footer):
    """Return the figure of a chain; call it inside `style.look`."""
    sizes = [_size(item) for item in chain]
    heights = [size[1] + _foot(item) + _ARROW for size, item in zip(sizes, chain, strict=True)]
    layout = columns(heights, _HIGH)
    widths = [max(sizes[index][0] for index in column) for column in layout]
    between, head, foot = 0.75, 1.15, 0.6
    title_width = max(networks.text_width(row, 15) for row in title.splitlines())
    width = max(sum(widths) + between * (len(widths) - 1), title_width, networks.text_width(footer, 10)) + 1.0
    high = max(sum(heights[index] for index in column) for column in layout)
    figure, axes = networks.canvas(width, high + head + foot, title)
    left = (width - sum(widths) - between * (len(widths) - 1)) / 2
    out = None
    for column, wide in zip(layout, widths, strict=True):
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
    axes.text(width / 2, 0.2, footer, fontsize=10, ha='center', color=networks.GRAY)
    return figure


def _draw_item(axes, item, x, top, wide, high):
    """Draw an item below `top`, centered at x; return the y at which its output leaves it."""
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
