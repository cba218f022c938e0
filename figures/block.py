"""One block of a network as the graph of its layers: an inception module, a residual, dense or gated block.

The graph is traced from the block's module (`architectures.dataflow`); edges are labeled with the shape of one image.
"""

import itertools
import statistics
from typing import NamedTuple

import architectures
from architectures import dataflow
from architectures.catalogue import NETWORKS
from figures import networks, style
from runtime.errors import UserError, nearest

_STUB, _GAP, _LANE = 0.3, 0.24, 0.4  # inches below a box, for the shape of its output; above a box; between lines
_SIZE, _SHAPE, _LINE = 11, 10, 0.21  # points of text, and of shapes; inches per line of text


class Box(NamedTuple):
    """One box of the drawing: a layer with the norm and activation that follow it, or a join.

    Fields:
      kind: see `dataflow.Node`; 'input' is the input of the block.
      name: name of the layer, or of an inner block that is a plain chain.
      lines: its operations.
      inputs: indices of the boxes that it reads.
      shape: (H, W, C) of its output.
    """

    kind: str
    name: str
    lines: tuple
    inputs: tuple
    shape: tuple


def make(out, arch='', config=None, checkpoint=(), layer=''):
    """Draw one block.

    Args:
      out: path of the figure.
      arch, config, checkpoint: see `networks.subject`.
      layer: the block's module, such as inception_3a or conv3_x/block1; '' for the network's first block.
    """
    subject = networks.subject(arch, config, checkpoint)
    graph = networks.graph(subject)
    path = find_block(subject.name, graph, layer)
    drawn = dataflow.flat(dataflow.part(graph, path))
    parameters = sum(node.parameters for node in drawn.nodes)
    kind = graph.modules[path].__name__
    title = f'{"/".join(path)} ({kind}) of {subject.title}\n{parameters:,} parameters'
    with style.look():
        style.save(draw(boxes(drawn, path), title), out)


def find_block(name, graph, layer=''):
    """Return the path of the named block, or of the first.

    Raises:
      UserError: if the network has no blocks, or none of that name.
    """
    if not graph.blocks:
        raise UserError(
            f'{name} has no blocks: `architecture` draws the complete network; networks with blocks: '
            f'{", ".join(with_blocks())}'
        )
    names = ['/'.join(path) for path in graph.blocks]
    if layer and layer not in names:
        shown = names if len(names) < 20 else [*names[:19], '...']
        raise UserError(f'{name} has no block {layer!r}{nearest(layer, names)} Its blocks: {", ".join(shown)}')
    return graph.blocks[names.index(layer) if layer else 0]


def with_blocks():
    """Return the names of the networks that have blocks; networks of one class all do, or none does."""
    models = {name: architectures.create(name) for name in architectures.names()}
    examples = {type(model): name for name, model in reversed(models.items())}
    with_block = {
        kind for kind, name in examples.items() if dataflow.trace(models[name], NETWORKS[name].input_shape).blocks
    }
    return [name for name, model in models.items() if type(model) in with_block]


def boxes(graph, path):
    """Return the boxes of a block, each after those that it reads.

    Args:
      graph: graph of the block alone.
      path: path of its module.
    """
    nodes, inner = graph.nodes, chains(graph, path)
    readers = dataflow.consumers([node.inputs for node in nodes])
    owner, groups = [], []  # the box of each node; the nodes of each box
    for index, node in enumerate(nodes):
        before = owner[node.inputs[0]] if node.inputs and readers[node.inputs[0]] == [index] else None
        block = inner.get(index)
        if before is not None and _belongs(node, block, nodes[groups[before][0]], inner.get(groups[before][0])):
            groups[before].append(index)
            owner.append(before)
        else:
            owner.append(len(groups))
            groups.append([index])
    drawn = []
    for group in groups:
        first, last = nodes[group[0]], nodes[group[-1]]
        block = inner.get(group[0])
        named = first.name if first.kind not in (*dataflow.NORMS, *dataflow.ACTIVATIONS, *dataflow.JOINS) else ''
        inputs = tuple(owner[source] for source in first.inputs)
        kind, name = ('block', block[-1]) if block else (first.kind, named)
        drawn.append(Box(kind, name, _lines([nodes[index] for index in group]), inputs, last.shape))
    return drawn


def _belongs(node, block, first, first_block):
    """Return whether a node is drawn in the box before it: it is in the same chain, or its norm or activation."""
    if block or first_block:
        return block == first_block
    follows = node.kind in (*dataflow.NORMS, *dataflow.ACTIVATIONS)
    return follows and first.kind not in ('input', *dataflow.JOINS)


def chains(graph, path):
    """Return {node: path of its block} for the inner blocks of a block that are plain chains of layers."""
    readers = dataflow.consumers([node.inputs for node in graph.nodes])
    block_of = {}
    for block in graph.blocks:
        members = [index for index, node in enumerate(graph.nodes) if node.scope[: len(block)] == block]
        links = itertools.pairwise(members)
        if block != path and all(readers[a] == [b] and graph.nodes[b].inputs == (a,) for a, b in links):
            block_of |= dict.fromkeys(members, block)
    return block_of


def _lines(nodes):
    """Return the lines of a box: one per layer, and one for the norms and activations between two layers."""
    lines, after_small = [], False
    for node in nodes:
        follows = node.kind in (*dataflow.NORMS, *dataflow.ACTIVATIONS)
        if follows and after_small:
            lines[-1] += f', {node.kind}'
        else:
            lines.append(networks.describe(node))
        after_small = follows
    return tuple(lines)


# Layout


class Layout(NamedTuple):
    """Positions in inches; y is negative, down from 0.

    Fields:
      centers: (x, y) of each box.
      lines: (points, color) of each edge; the points are the ends of its segments.
      left, right, bottom: extent of the drawing.
    """

    centers: dict
    lines: list
    left: float
    right: float
    bottom: float


def layout(drawn):
    """Return the `Layout` of boxes: branches side by side, or one column if the graph is not series-parallel."""
    sizes = [_size(box) for box in drawn]
    try:
        elements = dataflow.sequence([box.inputs for box in drawn])
    except ValueError:
        return _column(drawn, sizes)
    centers, lines = {}, []
    elements = [0, *elements]
    left, right, _ = _extent(elements, drawn, sizes)
    _, bottom = _place(elements, 0.0, 0.0, [], drawn, sizes, centers, lines)
    return Layout(centers, lines, -left, right, bottom)


def _size(box):
    """Return (width, height) of a box."""
    if box.kind in dataflow.JOINS:
        return networks.joint_size(box.kind)
    widths = [networks.text_width(text, _SIZE) for text in box.lines]
    widths.append(networks.text_width(box.name, _SIZE - 1, bold=True))
    return max(widths) + 0.3, _LINE * (len(box.lines) + bool(box.name)) + 0.16


def _extent(elements, drawn, sizes):
    """Return (left, right, height) of a sequence, relative to its center line."""
    left = right = height = 0.0
    for element in elements:
        vertex = element
        if isinstance(element, dataflow.Parallel):
            vertex, parts = element.join, [_extent(branch, drawn, sizes) for branch in element.branches if branch]
            outward, inward = _spread(parts, sum(not branch for branch in element.branches))
            left, right = max(left, outward), max(right, inward)
            height += max(part[2] for part in parts)
        wide, high = sizes[vertex]
        label = 0.1 + networks.text_width(_shape(drawn[vertex]), _SHAPE)
        left, right = max(left, wide / 2), max(right, wide / 2, label)
        height += _GAP + high + _STUB
    return left, right, height


def _spread(parts, bare):
    """Return (left, right) of branches side by side, the middle one straight, with bare lines to the right of them."""
    middles, width = [], 0.0
    for left, right, _ in parts:
        middles.append(width + left)
        width += left + right + _LANE
    middle = statistics.median(middles)
    return middle, width - _LANE - middle + _LANE * bare


def _place(elements, x, top, start, drawn, sizes, centers, lines):
    """Place a sequence below `top`; `start` is the line into it. Return the line out of it, and its bottom."""
    for element in elements:
        ends, vertex = [start], element
        if isinstance(element, dataflow.Parallel):
            vertex = element.join
            start = [*start, (x, top)]
            parts = [_extent(branch, drawn, sizes) for branch in element.branches if branch]
            floor = top - max(part[2] for part in parts)
            left, right = _spread(parts, 0)
            at, ends, bare = x - left, [], x + right
            entry = floor - _GAP - sizes[vertex][1] / 2
            for branch in element.branches:
                if not branch:
                    bare += _LANE
                    side = x + sizes[vertex][0] / 2
                    lines.append(([*start, (bare, top), (bare, entry), (side, entry)], networks.GRAY))
                    continue
                left, right, height = _extent(branch, drawn, sizes)
                at += left
                end, _ = _place(branch, at, floor + height, [*start, (at, top)], drawn, sizes, centers, lines)
                ends.append([*end, (at, floor)])
                at += right + _LANE
            top = floor
        high = sizes[vertex][1]
        if start:
            lines += [([*end, (x, top), (x, top - _GAP)], networks.GRAY) for end in ends]
        centers[vertex] = (x, top - _GAP - high / 2)
        start = [(x, top - _GAP - high)]
        top -= _GAP + high + _STUB
    return start, top


def _column(drawn, sizes):
    """Place boxes in one column, with a colored line at the right for each box that a later one reads."""
    centers, lines, top = {}, [], 0.0
    for index, (_, high) in enumerate(sizes):
        centers[index] = (0.0, top - _GAP - high / 2)
        top -= _GAP + high + _STUB
    far = sorted({source for index, box in enumerate(drawn) for source in box.inputs if source < index - 1})
    edge = max(wide for wide, _ in sizes) / 2 + 0.2
    for index, box in enumerate(drawn):
        wide, high = sizes[index]
        sides = [source for source in box.inputs if source in far and source < index - 1]
        for place, source in enumerate(sides):
            lane = edge + _LANE * 0.6 * (far.index(source) + 1)
            y = centers[index][1] + high * 0.8 * (0.5 - (place + 0.5) / len(sides))
            out = (sizes[source][0] / 2, centers[source][1])
            points = [out, (lane, out[1]), (lane, y), (wide / 2, y)]
            lines.append((points, style.CYCLE[far.index(source) % len(style.CYCLE)]))
        if index and index - 1 in box.inputs:
            above = centers[index - 1][1] - sizes[index - 1][1] / 2
            lines.append(([(0.0, above), (0.0, centers[index][1] + high / 2)], networks.GRAY))
    left = max(wide for wide, _ in sizes) / 2
    return Layout(centers, lines, -left, edge + _LANE * 0.6 * (len(far) + 1), top)


def _shape(box):
    return networks.by(box.shape)


def draw(drawn, title):
    """Return the figure of boxes; call it inside `style.look`."""
    where = layout(drawn)
    margin, head = 0.3, 0.4 + 0.28 * title.count('\n')
    title_width = max(networks.text_width(row, 15) for row in title.splitlines()) + 0.4
    width = max(where.right - where.left + 2 * margin, title_width)
    height = head - where.bottom + 0.2
    figure, axes = networks.canvas(width, height, title)
    dx, dy = (width - where.right - where.left) / 2, height - head
    for points, tint in where.lines:
        networks.line(axes, [(x + dx, y + dy) for x, y in points], tint=tint)
    for index, box in enumerate(drawn):
        x, y = where.centers[index][0] + dx, where.centers[index][1] + dy
        wide, high = _size(box)
        if box.kind in dataflow.JOINS:
            networks.joint(axes, x, y, box.kind)
        else:
            networks.box(axes, x - wide / 2, y - high / 2, wide, high, box.kind)
            rows = [(box.name, _SIZE - 1, 'bold')] if box.name else []
            rows += [(text, _SIZE, 'normal') for text in box.lines]
            for place, (text, size, weight) in enumerate(rows):
                level = y + _LINE * ((len(rows) - 1) / 2 - place)
                axes.text(x, level, text, fontsize=size, weight=weight, ha='center', va='center_baseline')
        foot = y - high / 2
        axes.text(x + 0.07, foot - 0.06, _shape(box), fontsize=_SHAPE, va='top', color=networks.GRAY)
    x, y = where.centers[len(drawn) - 1]
    foot = y - _size(drawn[-1])[1] / 2
    networks.line(axes, [(x + dx, foot + dy), (x + dx, foot + dy - _STUB - 0.08)])
    return figure
