"""What a network says of single images, with or without labels."""

import os

import jax

from errors import UserError
from evaluation import results, scoring
from input_pipeline import classes, loader
from input_pipeline.example import Example, is_image
from training import mesh


def files(paths):
    """The image files that a user names; of a folder all that lie in it, in the order of their names.

    Raises:
      UserError: a path that is not there, or a folder without images.
    """
    found = []
    for path in paths:
        if os.path.isdir(path):
            inside = sorted(name for name in os.listdir(path) if is_image(name))
            if not inside:
                raise UserError(f'{path} holds no images')
            found += [os.path.join(path, name) for name in inside]
        elif os.path.isfile(path):
            found.append(path)
        else:
            raise UserError(f'{path} is not there')
    return found


class Files:
    """Image files as a source without labels (-1)."""

    def __init__(self, paths):
        self.paths, self.name = paths, 'the images'

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with open(self.paths[index], 'rb') as file:
            return Example(file.read(), -1, self.paths[index])


def rows(member, source, numbers=None, batch_size=1, on_bad_image='stop'):
    """What a network says of images: `results.Row`s in the order of their numbers.

    Args:
      member: of `opening.open_checkpoint`.
      source: see `input_pipeline.sources`; an image without a label has the label -1, and its rank says nothing.
      numbers: of the images; None is all.
      batch_size: views that go through the network at a time.
      on_bad_image: 'stop', or 'skip': such an image has the rank -1.

    Raises:
      UserError: an image that cannot be read, unless it is skipped.
    """
    grid = mesh.of_this_process()
    scorer = scoring.Scorer([member], grid.size, batch_size, lambda batch: jax.device_put(batch, mesh.batched(grid)))
    examples = loader.map_images(source, scorer.items, member.config.channels, on_bad_image, numbers=numbers)
    return sorted(
        results.row(example['index'], example['name'], max(example['label'], 0), logs)._replace(label=example['label'])
        for example, logs in scorer.log_probabilities(examples)
    )


def predict(member, paths):
    """[{'file', 'best': [{'class', 'name', 'probability'}, ...]}] of image files, five a file, in their order.

    Args:
      member: of `opening.open_checkpoint`.
      paths: of the files.

    Raises:
      UserError: a file that is no image; it names it.
    """
    names = classes.of_network(member.class_names, member.config)
    return [{'file': row.name, 'best': best(row, names)} for row in rows(member, Files(paths))]


def best(row, names):
    """[{'class', 'name', 'probability'}, ...] of the best five of a `results.Row`."""
    return [
        {'class': label, 'name': names[label], 'probability': round(probability, 6)}
        for label, probability in zip(row.classes, row.probabilities, strict=True)
    ]
