"""Published errors over the parameters and multiply-adds of every network that has one."""

from typing import NamedTuple

import numpy as np
from matplotlib import ticker

import papers
from architectures.catalogue import NETWORKS
from figures import style

_LINES = {  # one color per group of families
    'LeNet, AlexNet': (style.BLACK, ('LeNet', 'AlexNet')),
    'ZFNet, OverFeat': (style.SKY, ('ZFNet', 'OverFeat')),
    'Inception': (style.GREEN, ('GoogLeNet', 'BN-Inception')),
    'VGG, PReLU-net': (style.ORANGE, ('VGG', 'PReLU-net')),
    'plain, ResNet': (style.BLUE, ('plain', 'ResNet')),
    'WRN, ResNeXt': (style.PURPLE, ('WRN', 'ResNeXt')),
    'DenseNet': (style.YELLOW, ('DenseNet',)),
    'SENet': (style.RED, ('SENet',)),
    'others': ('#808080', ()),  # all other families
}
_SHAPES = {'one crop': 'o', 'ten crops': 's', 'more': '^'}  # ImageNet only: the views of a photograph
_TICKS = (4, 5, 6, 7, 8, 9, 10, 12, 15, 20)  # of the error axis, which is logarithmic
_GAP = 4  # points between a mark and its name


class Network(NamedTuple):
    """A registered network with a published error.

    Fields:
      name, parameters, multiply_adds: see the catalogue.
      error: percent; `printed`: as its paper prints it.
      measure: kind of error, such as 'top-5, ImageNet validation'.
      line: its entry in the legend, a key of `_LINES`.
      views: a key of `_SHAPES`; '' for a data set whose images are tested as a single view.
    """

    name: str
    parameters: int
    multiply_adds: int
    error: float
    printed: str
    measure: str
    line: str
    views: str


def make(out):
    """Draw published errors over parameters and over multiply-adds, one row of panels per data set.

    Args:
      out: path of the figure.
    """
    with style.look():
        style.save(draw(networks()), out, dpi=100)


def draw(listed):
    """Return the figure of a list of `Network`; draw and save it inside `style.look`."""
    rows = [[network for network in listed if network.measure == measure] for measure in _measures(listed)]
    drawn, rest = [row for row in rows if len(row) > 3], [network for row in rows if len(row) <= 3 for network in row]
    figure = style.figure(18, 15)
    figure.get_layout_engine().set(h_pad=0.15, w_pad=0.15)
    panels = figure.subplots(len(drawn), 2, height_ratios=[len(row) + 8 for row in drawn], sharey='row')
    for row, pair in zip(drawn, panels, strict=True):
        for panel, what in zip(pair, ('parameters', 'multiply_adds'), strict=True):
            _marks(panel, row, what)
            panel.set_xlabel(what.replace('_', '-'))
        pair[0].set_ylabel(f'{row[0].measure}, error, %')
    _legend(panels[0][1], {network.line for network in listed})
    omitted = '; '.join(f'{network.name} {network.measure} {network.printed}' for network in rest)
    figure.supxlabel(f'Not drawn (too few networks with this kind of error): {omitted}', fontsize=11)
    figure.suptitle("Published errors of the registered networks, each with its paper's own protocol", fontsize=18)
    figure.draw_without_rendering()
    figure.set_layout_engine('none')  # fix the panels at their present positions
    for row, pair in zip(drawn, panels, strict=True):
        for panel, what in zip(pair, ('parameters', 'multiply_adds'), strict=True):
            name_marks(
                panel, [(getattr(network, what), network.error) for network in row], [network.name for network in row]
            )
    return figure


def networks():
    """Return the `Network`s in the catalogue's order, with the top-5 error if top-1 and top-5 are both published."""
    listed = []
    for name, entry in NETWORKS.items():
        published = papers.HEADLINES.get(name)
        if not published or not entry.parameters or not entry.multiply_adds:
            continue
        kind, error = ('top-5', published.top5) if published.top5 else ('top-1', published.top1)
        line = next((line for line, (_, families) in _LINES.items() if entry.family in families), 'others')
        views = ''
        if published.dataset.startswith('ImageNet'):
            views = next((view for view in _SHAPES if published.protocol.startswith(view)), 'more')
        measure = f'{kind}, {published.dataset}'
        listed.append(Network(name, entry.parameters, entry.multiply_adds, float(error), error, measure, line, views))
    return listed


def _measures(listed):
    measures = [network.measure for network in listed]
    return sorted(set(measures), key=lambda measure: -measures.count(measure))


def _marks(panel, row, what):
    for one in row:
        color = _LINES[one.line][0]
        shape = _SHAPES.get(one.views, 'o')
        panel.plot(getattr(one, what), one.error, shape, color=color, markersize=10, markeredgecolor='black')
    panel.set(xscale='log', yscale='log')
    low, high = min(getattr(one, what) for one in row), max(getattr(one, what) for one in row)
    panel.set_xlim(low / 1.5, high * 2)
    errors = [one.error for one in row]
    panel.set_ylim(min(errors) / 1.1, max(errors) * 1.1)
    panel.set_yticks([tick for tick in _TICKS if min(errors) / 1.1 < tick < max(errors) * 1.1])
    panel.yaxis.set_major_formatter('{x:g}')
    panel.yaxis.set_minor_locator(ticker.NullLocator())
    panel.grid(alpha=0.3)


def _legend(panel, lines):
    for line in (line for line in _LINES if line in lines):
        color = _LINES[line][0]
        panel.plot([], [], 's', color=color, markersize=10, markeredgecolor='black', label=line)
    for views, shape in _SHAPES.items():
        label = {'more': 'dense, or 144 crops'}.get(views, views)
        panel.plot([], [], shape, color='white', markersize=10, markeredgecolor='black', label=label)
    panel.legend(loc='upper right', ncols=2, fontsize=12)


def name_marks(panel, places, names):
    """Write names next to marks without overlaps; a name far from its mark is connected to it by a line.

    Args:
      panel: axes whose position and limits are final.
      places: positions of the marks, in data units.
      names: name of each mark.

    Returns:
      The texts.
    """
    renderer, point = panel.figure.canvas.get_renderer(), panel.figure.dpi / 72
    mark = 6 * point  # half of a mark's side
    pixels = panel.transData.transform(places).tolist()
    taken = [(x - mark, y - mark, x + mark, y + mark) for x, y in pixels]
    taken += [panel.get_legend().get_window_extent(renderer).extents] if panel.get_legend() else []
    frame, texts = panel.get_window_extent().extents, []
    for place, (x, y), name in sorted(zip(map(tuple, places), pixels, names, strict=True)):
        text = panel.annotate(name, place, place, ha='center', va='center', fontsize=11, in_layout=False)
        size = text.get_window_extent(renderer)
        candidates = _candidates(x, y, size.width, size.height, mark, point)
        center, far = next(
            (center, far)
            for center, far in candidates
            if _inside(box := _box(*center, size.width, size.height), frame)
            and not any(_overlap(box, other) for other in taken)
        )
        taken.append(_box(*center, size.width, size.height))
        text.remove()
        line = {'arrowstyle': '-', 'linewidth': 0.7, 'color': '0.4', 'shrinkA': 0, 'shrinkB': 4}
        where = panel.transData.inverted().transform(center)
        texts.append(
            panel.annotate(
                name, place, where, ha='center', va='center', fontsize=11, in_layout=False,
                arrowprops=line if far else None,
            )
        )  # fmt: skip
    return texts


def _candidates(x, y, width, height, mark, point):
    """Yield candidate centers ((x, y), whether far) of a name, nearest first: on growing rings around its mark."""
    for ring in range(60):
        away = mark + (_GAP + 7 * ring) * point
        for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
            dx, dy = np.cos(angle), np.sin(angle)
            yield (x + dx * (away + width / 2), y + dy * (away + height / 2)), ring > 1


def _box(x, y, width, height):
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _inside(a, b):
    return b[0] < a[0] and b[1] < a[1] and a[2] < b[2] and a[3] < b[3]


def _overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
