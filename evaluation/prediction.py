"""What a network says of single images, with or without labels."""

import os

import jax

from evaluation import results, scoring
from input_pipeline import datasets, geometry, loader
from input_pipeline.example import Example, is_image, list_some, skipped_note
from runtime import mesh
from runtime.errors import UserError


def files(paths):
    """The image files that a user names; of a folder all that lie in it, in the order of their names.

    Returns:
      (their paths, notes on what was skipped in folders).

    Raises:
      UserError: a path that is not there, or a folder without images.
    """
    found, notes = [], []
    for path in paths:
        if os.path.isdir(path):
            names = sorted(os.listdir(path))
            inside = [name for name in names if is_image(name)]
            others = [name for name in names if not is_image(name)]
            others = [f'{name}/' if os.path.isdir(os.path.join(path, name)) else name for name in others]
            if not inside:
                raise UserError('. '.join([f'{path} holds no images', *skipped_note(path, others)]))
            notes += skipped_note(path, others)
            found += [os.path.join(path, name) for name in inside]
        elif os.path.isfile(path):
            found.append(path)
        else:
            raise UserError(f'{path} is not there')
    return found, notes


class Files:
    """Image files as a source without labels (-1).

    A photograph that lies on its side or its head by its EXIF orientation is turned upright, unlike in training and
    evaluation, unless `ignore_exif`; `notes` name such photographs.
    """

    def __init__(self, paths, ignore_exif=False):
        self.paths, self.name = paths, 'the images'
        self.orientations = [1] * len(paths) if ignore_exif else [_orientation(path) for path in paths]
        turned = [path for path, how in zip(paths, self.orientations, strict=True) if how != 1]
        self.notes = [f'turned upright by EXIF orientation: {list_some(turned)}'] if turned else []

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path, orientation = self.paths[index], self.orientations[index]
        with open(path, 'rb') as file:
            image = file.read()
        if orientation != 1:
            try:
                image = geometry.make_upright(geometry.decode(image), orientation)
            except ValueError as error:
                raise ValueError(f'{path} {error}') from None
        return Example(image, -1, path)


def _orientation(path):
    with open(path, 'rb') as file:
        return geometry.orientation(file)


def rows(member, source, numbers=None, batch_size=1, on_bad_image='stop', progress=lambda amount: None):
    """What a network says of images: `results.Row`s in the order of their numbers.

    Args:
      member: of `opening.open_checkpoint`.
      source: see `input_pipeline.sources`; an image without a label has the label -1, and its rank says nothing.
      numbers: of the images; None is all.
      batch_size: views that go through the network at a time.
      on_bad_image: 'stop', or 'skip': such an image has the rank -1.
      progress: called with the number of images that are done since its last call.

    Raises:
      UserError: an image that cannot be read, unless it is skipped.
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
    """[{'file', 'best': [{'class', 'name', 'probability'}, ...]}] of image files, five a file, in their order.

    Args:
      member: of `opening.open_checkpoint`. Its config's `on_bad_image='skip'` leaves out what is no image.
      source: `Files`.
      progress: see `rows`.

    Raises:
      UserError: a file that is no image, which it names, or no image among all files.
    """
    names = datasets.of_network(member.class_names, member.config)
    answered = rows(member, source, on_bad_image=member.config.on_bad_image, progress=progress)
    if all(row.rank < 0 for row in answered):
        raise UserError('none of the files is an image that can be read')
    return [{'file': row.name, 'best': best(row, names)} for row in answered if row.rank >= 0]


def best(row, names):
    """[{'class', 'name', 'probability'}, ...] of the best five of a `results.Row`."""
    return [
        {'class': label, 'name': names[label], 'probability': round(probability, 6)}
        for label, probability in zip(row.classes, row.probabilities, strict=True)
    ]
