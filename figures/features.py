"""Images with their nearest in the last hidden layer (Krizhevsky et al. 2012, section 6.1 and figure 4, right)."""

import math

import numpy as np
from sklearn.neighbors import NearestNeighbors

import architectures
from figures import pictures, seen, style
from figures.opened import open_data, open_one
from input_pipeline.progress import bar
from runtime.errors import UserError

_SIDE = 1.35  # inches of a picture


def make(out, config, checkpoint, step='best', images=(), queries=5, count=6):
    """Draws images, each a row, with those of a test split whose features are nearest, nearest first.

    Args:
      out: the file.
      config, checkpoint, step: see `figures.opened.open_one`; neighbours are of the config's test split.
      images: files and folders to seek neighbours of.
      queries: where there are none: how many images of the test split itself, evenly spaced.
      count: neighbours of each.
    """
    for flag, value in (('queries', queries), ('count', count)):
        if value < 1:
            raise UserError(f'--{flag} must be at least 1, not {value}')
    opened, data = open_one(config, checkpoint, step), open_data(config)
    if count >= len(data.source):
        raise UserError(f'{data.title} has {len(data.source)} images: --count can be {len(data.source) - 1} at most')
    asked = open_data(config, images) if images else data
    with bar(opened.title, len(data.source)) as progress:
        known, numbers = seen.outputs(opened.member, data.source, architectures.last_hidden, progress)
    if images:
        features, places = seen.outputs(opened.member, asked.source, architectures.last_hidden)
        distances, found = nearest(known, features, count)
    else:
        chosen = spaced(len(known), queries)
        places = numbers[chosen]
        distances, found = nearest(known, known[chosen], count, chosen)
    labels = [asked.source[int(place)].label for place in places]
    around = numbers[found]
    digits = max(0, 2 - math.floor(math.log10(max(distances.max(), 1e-6))))
    cells = []
    for row, (place, label) in enumerate(zip(places, labels, strict=True)):
        cells.append(_cell(opened.member.pixels, asked, place, row, 0))
        for column, (number, distance) in enumerate(zip(around[row], distances[row], strict=True)):
            cells.append(
                _cell(opened.member.pixels, data, number, row, column + 1.3, f'\n{distance:.{digits}f}', label)
            )
    title = f'{known.shape[1]} features of {opened.title}\nnearest of {len(known):,} of {data.title}'
    if not images:
        same = sum(cell.bold for cell in cells)
        title += f'; {same} of {found.size} are of the class of the image at the left (bold)'
    with style.look():
        style.save(pictures.sheet(cells, title, _SIDE, lines=2), out)


def _cell(pixels, data, number, row, column, words='', label=None):
    """An image of some data at a place of the sheet, its class in bold where it is the one of `label`."""
    example = data.source[int(number)]
    name = pictures.short(data.names[example.label], pictures.letters(_SIDE)) if example.label >= 0 else ''
    bold = label is not None and example.label == label
    return pictures.Cell(row, column, seen.view(pixels, example.image)[0], name + words, bold)


def spaced(total, count):
    """The middles of so many equal parts of range(total), at most all."""
    count = min(count, total)
    return np.array([(2 * part + 1) * total // (2 * count) for part in range(count)])


def nearest(known, features, count, own=None):
    """The neighbours of features by Euclidean distance.

    Args:
      known: float [N, D].
      features: float [Q, D].
      count: of neighbours.
      own: int [Q], the place of each among the known, then no neighbour of its own; None: they are not.

    Returns:
      (distances [Q, count], places among the known [Q, count]), nearest first.
    """
    search = NearestNeighbors(algorithm='brute', metric='euclidean').fit(known)
    distances, found = search.kneighbors(features, count + (own is not None))
    if own is None:
        return distances, found
    others = found != own[:, None]
    others[others.all(1), -1] = False  # as many images as that are equal to it
    return distances[others].reshape(-1, count), found[others].reshape(-1, count)
