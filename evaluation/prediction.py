"""Predictions for single images, with or without labels."""

import os

import jax

from evaluation import results, scoring
from input_pipeline import datasets, geometry, loader
from input_pipeline.example import Example, is_image, list_some, read_image, skipped_note
from runtime import foreign, mesh
from runtime.errors import UserError


def files(paths):
    """Return the image files that a user names; a folder stands for the images in it, sorted by name.

    Returns:
      (paths of the images, notes on files that were skipped in folders).

    Raises:
      UserError: if a path does not exist, or a folder has no images.
    """
    image_paths, notes = [], []
    for path in paths:
        if os.path.isdir(path):
            names = sorted(os.listdir(path))
            images = [name for name in names if is_image(name)]
            others = [name for name in names if not is_image(name)]
            others = [f'{name}/' if os.path.isdir(os.path.join(path, name)) else name for name in others]
            folders = [os.path.join(path, name) for name in others if name.endswith('/')]
            if not images and folders:
                raise UserError(f'{path} holds folders and no images: pass {list_some(folders)}')
            if not images:
                raise UserError('. '.join([f'{path} holds no images', *skipped_note(path, others)]))
            notes += skipped_note(path, others)
            image_paths += [os.path.join(path, name) for name in images]
        elif os.path.isfile(path):
            image_paths.append(path)
        else:
            raise UserError(f'{path} {"is not a file or folder" if os.path.exists(path) else "does not exist"}')
    return image_paths, notes


class Files:
    """A source of image files without labels (-1).

    Unlike training and evaluation, it turns a photograph upright by its EXIF orientation, unless `ignore_exif`; `notes`
    name the photographs that were turned.
    """

    def __init__(self, paths, ignore_exif=False):
        self.paths, self.name = paths, 'the images'
        self.orientations = [1] * len(paths) if ignore_exif else [_orientation(path) for path in paths]
        turned = [path for path, code in zip(paths, self.orientations, strict=True) if code != 1]
        self.notes = [f'turned upright by EXIF orientation: {list_some(turned)}'] if turned else []

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path, orientation = self.paths[index], self.orientations[index]
        image = read_image(path)
        if orientation != 1:
            try:
                image = geometry.make_upright(geometry.decode(image), orientation)
            except ValueError as error:
                raise ValueError(f'{path} {error}') from None
        return Example(image, -1, path)


def _orientation(path):
    try:
        with foreign.open_regular(path) as file:
            return geometry.orientation(file)
    except (OSError, UserError):  # `on_bad_image` says what to do with it when it is read
        return 1


def rows(member, source, numbers=None, batch_size=1, on_bad_image='stop', progress=lambda amount: None):
    """Return the `results.Row`s of a network for images, in the order of their indices.

    Args:
      member: the `scoring.Member` of a checkpoint.
      source: see `input_pipeline.sources`; an image without a label has the label -1 and a meaningless rank.
      numbers: indices of the images; None for all.
      batch_size: views per forward pass.
      on_bad_image: 'stop', or 'skip', which gives an unreadable image the rank -1.
      progress: called with the number of images finished since its last call.

    Raises:
      UserError: if an image cannot be read and is not skipped.
    """

    def row_of(example, logs):
        progress(1)
        row = results.row(example['index'], example['name'], max(example['label'], 0), logs)
        return row._replace(label=example['label'])

    grid = mesh.of_this_process()
    scorer = scoring.Scorer(
        [member], grid.size, batch_size, lambda batch: jax.device_put(batch, mesh.batch_sharding(grid))
    )
    examples = loader.map_images(source, scorer.items, member.pixels.channels, on_bad_image, numbers=numbers)
    return sorted(row_of(example, logs) for example, logs in scorer.log_probabilities(examples))


def predict(member, source, progress=lambda amount: None):
    """Return the five best classes of each image file, in the order of the files.

    Args:
      member: the `scoring.Member` of a checkpoint. Its config's `on_bad_image='skip'` leaves out files that are not
        images.
      source: `Files`.
      progress: see `rows`.

    Returns:
      [{'file', 'best': [{'class', 'name', 'probability'}, ...]}].

    Raises:
      UserError: if a file is not an image (the message names it), or no file is.
    """
    names = datasets.of_network(member.class_names, member.config)
    predicted = rows(member, source, on_bad_image=member.config.on_bad_image, progress=progress)
    if all(row.rank < 0 for row in predicted):
        raise UserError('none of the files is a readable image')
    return [{'file': row.name, 'best': best(row, names)} for row in predicted if row.rank >= 0]


def best(row, names):
    """Return [{'class', 'name', 'probability'}, ...] for the best five classes of a `results.Row`."""
    return [
        {'class': label, 'name': names[label], 'probability': round(probability, 6)}
        for label, probability in zip(row.classes, row.probabilities, strict=True)
    ]
