"""What the figures of networks share: the network, texts for its layers, and shapes to draw them with."""

from pathlib import Path
from typing import NamedTuple

from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch
from matplotlib.path import Path as Line
from matplotlib.textpath import text_to_path

import architectures
from architectures import dataflow
from architectures.catalogue import NETWORKS
from figures import style
from runtime.errors import UserError

GRAY = '#404040'  # for lines and secondary text
_SHORT = {'convolution': 'conv', 'fully connected': 'fc'}
_SIGNS = {'add': '+', 'multiply': '×', 'concat': 'concat'}
_COLORS = {'convolution': style.SKY, 'fully connected': style.GREEN, 'add': style.YELLOW, 'multiply': style.YELLOW}
_COLORS |= dict.fromkeys(('max pool', 'average pool', 'global average', 'subsampling', 'subsample'), style.ORANGE)
_COLORS |= {'RBF': style.GREEN, 'concat': style.YELLOW, 'spatial pyramid': style.ORANGE, 'block': style.BLUE}


class Subject(NamedTuple):
    """A network to draw.

    Fields:
      name: one of `architectures.names()`.
      title: text that identifies it.
      model: its module.
      image_shape: (H, W, C).
    """

    name: str
    title: str
    model: object
    image_shape: tuple


def subject(arch='', config=None, checkpoint=()):
    """Return the network to draw: a named one, or a checkpoint's with its options and image size.

    Raises:
      UserError: if none or two are given, or there is no such network.
    """
    if bool(arch) == (config is not None):
        raise UserError('name one network: --arch NAME (`python -m architectures` lists them), or --checkpoint DIR')
    if arch:
        model = architectures.create(arch)
        return Subject(arch, f'{arch} ({NETWORKS[arch].cited})', model, NETWORKS[arch].input_shape)
    from training.run import build_model

    if len(checkpoint) > 1:
        raise UserError(f'this figure takes one --checkpoint, and {len(checkpoint)} are given')
    name, shape = config.architecture, (config.image_size, config.image_size, config.channels)
    folder = f', {Path(checkpoint[0]).absolute().name}' if checkpoint else ''
    return Subject(name, f'{name} ({NETWORKS[name].cited}){folder}', build_model(config), shape)


def graph(subject):
    """Return the `dataflow.Graph` of a subject."""
    return dataflow.trace(subject.model, subject.image_shape)


# Text


def by(shape):
    """Format a shape: (28, 28, 192) as 28×28×192, a vector as its length."""
    return str(shape[2]) if shape[:2] == (1, 1) else '×'.join(map(str, shape))


def describe(node, brief=False, stride=True):
    """Return the text for a layer: 'conv 3×3, 64, stride 2'; brief: '3×3, 64'."""
    kernel = f'{node.kernel[0]}×{node.kernel[1]}' if node.kernel else ''
    kind = '' if brief and node.kind == 'convolution' else _SHORT.get(node.kind, node.kind)
    parts = [' '.join(filter(None, [kind, kernel]))]
    if node.kind in ('fully connected', 'RBF', 'spatial pyramid'):
        parts[0] += f' {node.shape[2]}'
    if node.kind in ('convolution', 'zero pad'):
        parts.append(f'{node.shape[2]}')
    if node.groups > 1:
        parts.append(f'{node.groups} groups')
    if node.stride > 1 and stride:
        parts.append(f'stride {node.stride}')
    return ', '.join(parts)


def color(kind):
    """Return the color for a kind of layer, light enough for black text."""
    return tuple(1 - 0.45 * (1 - part) for part in to_rgb(_COLORS[kind])) if kind in _COLORS else (0.93, 0.93, 0.93)


# Shapes, in inches


def canvas(width, height, title):
    """Return a figure and axes that fill it, in units of an inch, with a title at the top."""
    figure = style.figure(width, height)
    figure.set_layout_engine('none')
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis('off')
    figure.suptitle(title, y=1 - 0.15 / height, va='top')
    return figure, axes


def text_width(text, size, bold=False):
    """Return the width of a line of text in inches."""
    font = FontProperties(family='DejaVu Sans', size=size, weight='bold' if bold else 'normal')
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


def box(axes, x, y, width, height, kind):
    """Draw a box with its bottom left corner at (x, y)."""
    rounded = 'round,pad=0,rounding_size=0.06'
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=rounded, fc=color(kind), ec=GRAY, lw=1))


def joint(axes, x, y, join):
    """Draw a round node centered at (x, y)."""
    wide, high = joint_size(join)
    if wide == high:
        axes.add_patch(Circle((x, y), high / 2, fc=color(join), ec=GRAY, lw=1, zorder=3))
    else:
        rounded, corner = f'round,pad=0,rounding_size={high / 2}', (x - wide / 2, y - high / 2)
        axes.add_patch(FancyBboxPatch(corner, wide, high, boxstyle=rounded, fc=color(join), ec=GRAY, lw=1, zorder=3))
    size = 10 if join == 'concat' else 14
    axes.text(x, y, _SIGNS[join], ha='center', va='center_baseline', fontsize=size, zorder=4)


def joint_size(join):
    """Return (width, height) of a round node."""
    return (0.75, 0.27) if join == 'concat' else (0.27, 0.27)


def line(axes, points, arrow=True, tint=GRAY, radius=0.08):
    """Draw a line of vertical and horizontal segments with rounded corners and an arrow at its end."""
    points = [point for at, point in enumerate(points) if at == 0 or point != points[at - 1]]
    vertices, codes = [points[0]], [Line.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        entry, leave = _toward(corner, before, radius), _toward(corner, after, radius)
        vertices += [entry, corner, leave]
        codes += [Line.LINETO, Line.CURVE3, Line.CURVE3]
    vertices.append(points[-1])
    codes.append(Line.LINETO)
    axes.add_patch(PathPatch(Line(vertices, codes), fc='none', ec=tint, lw=1.4, zorder=1))
    if arrow:
        start = _toward(points[-1], points[-2], 0.02)
        look = {
            'arrowstyle': '-|>,head_width=0.22,head_length=0.42',
            'color': tint,
            'lw': 1,
            'shrinkA': 0,
            'shrinkB': 0,
        }
        axes.annotate('', points[-1], start, arrowprops=look, zorder=2)


def _toward(point, other, distance):
    """Return the point at a distance from `point` toward `other`, at most halfway."""
    dx, dy = other[0] - point[0], other[1] - point[1]
    length = abs(dx) + abs(dy)
    share = min(distance / length, 0.5) if length else 0
    return point[0] + share * dx, point[1] + share * dy
