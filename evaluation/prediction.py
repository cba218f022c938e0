"""What a network says of photographs that have no labels."""

import os

from errors import UserError
from evaluation import classes, results, scoring
from input_pipeline import loader
from input_pipeline.example import Example, is_image


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


class _Files:
    """Image files as a source without labels."""

    def __init__(self, paths):
        self.paths, self.name = paths, 'the images'

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with open(self.paths[index], 'rb') as file:
            return Example(file.read(), -1, self.paths[index])


def predict(member, paths):
    """[{'file', 'best': [{'class', 'name', 'probability'}, ...]}] of image files, five a file, in their order.

    Args:
      member: of `opening.open_checkpoint`.
      paths: of the files.

    Raises:
      UserError: a file that is no image; it names it.
    """
    import jax

    scorer = scoring.Scorer([member], 1, 1, jax.device_put)
    names = classes.of_network(member.config)
    examples = loader.map_images(_Files(paths), scorer.items, member.config.channels)
    rows = [results.row(e['index'], e['name'], 0, found) for e, found in scorer.log_probabilities(examples)]
    return [
        {
            'file': row.name,
            'best': [
                {'class': label, 'name': names[label], 'probability': round(probability, 6)}
                for label, probability in zip(row.classes, row.probabilities, strict=True)
            ],
        }
        for row in sorted(rows)
    ]
