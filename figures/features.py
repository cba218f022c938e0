"""Images with their nearest neighbors in the last hidden layer (Krizhevsky et al. 2012, section 6.1, figure 4)."""

import math

import numpy as np
from sklearn.neighbors import NearestNeighbors

import architectures
from evaluation import apply
from figures import pictures, style
from figures.inputs import open_data, open_one
from input_pipeline.progress import bar
from runtime.errors import UserError

_SIDE = 1.35  # inches of a picture


def make(out, config, checkpoint, step='best', images=(), queries=5, count=6):
    """Draw one row per image: the image and its nearest neighbors in a test split, nearest first.

    Args:
      out: path of the figure.
      config, checkpoint, step: see `figures.inputs.open_one`; neighbors are from the config's test split.
      images: files and folders whose neighbors are searched.
      queries: without `images`, the number of evenly spaced images of the test split to use.
      count: neighbors per image.
    """
    for flag, value in (('queries', queries), ('count', count)):
        if value < 1:
            raise UserError(f'--{flag} must be at least 1, not {value}')
    network, data = open_one(config, checkpoint, step), open_data(config)
    if count >= len(data.source):
        raise UserError(f'{data.title} has {len(data.source)} images: --count can be {len(data.source) - 1} at most')
    query = open_data(config, images) if images else data
    with bar(network.title, len(data.source)) as progress:
        known, numbers = apply.outputs(network.member, data.source, architectures.last_hidden, progress)
    if images:
        features, places = apply.outputs(network.member, query.source, architectures.last_hidden)
        distances, neighbors = nearest(known, features, count)
    else:
        indices = evenly_spaced(len(known), queries)
        places = numbers[indices]
        distances, neighbors = nearest(known, known[indices], count, indices)
    labels = [query.source[int(place)].label for place in places]
    neighbor_numbers = numbers[neighbors]
    digits = max(0, 2 - math.floor(math.log10(max(distances.max(), 1e-6))))
    cells = []
    for row, (place, label) in enumerate(zip(places, labels, strict=True)):
        cells.append(_cell(network.member.pixels, query, place, row, 0))
        for column, (number, distance) in enumerate(zip(neighbor_numbers[row], distances[row], strict=True)):
            cells.append(
                _cell(network.member.pixels, data, number, row, column + 1.3, f'\n{distance:.{digits}f}', label)
            )
    title = f'{known.shape[1]} features of {network.title}\nnearest of {len(known):,} of {data.title}'
    if not images:
        same = sum(cell.bold for cell in cells)
        title += f'; {same} of {neighbors.size} have the class of the image at the left (bold)'
    with style.look():
        style.save(pictures.sheet(cells, title, _SIDE, lines=2), out)


def _cell(pixels, data, number, row, column, suffix='', label=None):
    """Return the cell of an image; the name of its class is bold if the class is `label`."""
    example = data.source[int(number)]
    name = pictures.short(data.names[example.label], pictures.letters(_SIDE)) if example.label >= 0 else ''
    bold = label is not None and example.label == label
    return pictures.Cell(row, column, apply.view(pixels, example.image)[0], name + suffix, bold)


def evenly_spaced(total, count):
    """Return the middles of `count` equal parts of range(total), at most `total` of them."""
    count = min(count, total)
    return np.array([(2 * part + 1) * total // (2 * count) for part in range(count)])


def nearest(known, features, count, excluded=None):
    """Return the nearest neighbors of features by Euclidean distance.

    Args:
      known: float [N, D].
      features: float [Q, D].
      count: neighbors per feature.
      excluded: int [Q], the index in `known` of each feature itself, which is not its own neighbor; None if the
        features are not in `known`.

    Returns:
      (distances [Q, count], indices into `known` [Q, count]), nearest first.
    """
    search = NearestNeighbors(algorithm='brute', metric='euclidean').fit(known)
    distances, indices = search.kneighbors(features, count + (excluded is not None))
    if excluded is None:
        return distances, indices
    others = indices != excluded[:, None]
    others[others.all(1), -1] = False  # more than `count` equal images: the image itself was not returned
    return distances[others].reshape(-1, count), indices[others].reshape(-1, count)
