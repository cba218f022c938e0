"""The inputs of a figure: networks and data, with their titles."""

import sys
from pathlib import Path
from typing import NamedTuple

import evaluation
from evaluation import label_sets, prediction, scoring
from evaluation.checkpoint import Checkpoint
from input_pipeline import classes, datasets
from runtime.errors import UserError
from runtime.text import say


class Network(NamedTuple):
    """A network of a figure.

    Fields:
      member: its model and weights, see `scoring.Member`.
      title: text that names the network and its checkpoint.
      card: its passport, or None.
      checkpoint: the argument of `evaluation.evaluate`.
    """

    member: scoring.Member
    title: str
    card: dict | None
    checkpoint: Checkpoint


class Data(NamedTuple):
    """Images of a figure.

    Fields:
      source: see `input_pipeline.sources`; images without labels have the label -1.
      names: names of the classes.
      title: text that names the images.
      labels: the `labels` of `evaluation.evaluate` if the images are of only some of the network's classes, else ''.
    """

    source: object
    names: tuple
    title: str
    labels: str = ''


def open_one(config, checkpoint, step='best', protocol='single'):
    """Open the checkpoint of a figure that takes a single one.

    Args:
      config: its config, with the changes from the command line.
      checkpoint: list with its path.
      step: which checkpoint of a workdir: 'best', 'latest' or a number.
      protocol: its test protocol (`evaluation.protocols`).

    Returns:
      A `Network`.

    Raises:
      UserError: if there is more than one checkpoint, or from `evaluation.open_checkpoint`.
    """
    if len(checkpoint) != 1:
        raise UserError(f'this figure takes one --checkpoint, and {len(checkpoint)} are given')
    return _network(evaluation.open_checkpoint(config, checkpoint[0], step, protocol))


def open_several(config, checkpoint, step='best'):
    """Open the checkpoints of a figure that compares them, each with its own config and the data of the first.

    Args:
      config: config of the first, with the changes from the command line.
      checkpoint: list of their paths.
      step: which checkpoint of each workdir: 'best', 'latest' or a number.

    Returns:
      A list of `Network`.

    Raises:
      UserError: from `evaluation.open_members`.
    """
    return [_network(opened) for opened in evaluation.open_members(config, checkpoint, step)]


def _network(checkpoint):
    return Network(checkpoint.member, title(checkpoint), checkpoint.card, checkpoint)


def title(checkpoint):
    """Return a title such as 'alexnet, my_run, step 9,000'; for converted weights it names their file.

    Args:
      checkpoint: returned by `evaluation.open_checkpoint`.
    """
    where, card = checkpoint.where.absolute(), checkpoint.card
    origin = f'converted from {card["source"]["file"]}' if card else f'step {checkpoint.step:,}'
    parts = checkpoint.member.config.architecture, where.parent.parent.name or str(where.parent), origin
    return ', '.join(dict.fromkeys(parts))


def open_data(config, images=(), member=None):
    """Open the images of a figure: files that the user names, or the config's test split.

    Args:
      config: config of the checkpoint, with the changes from the command line.
      images: paths of files and folders; () for the test split.
      member: the network (`scoring.Member`) whose classes the labels refer to, of which the split may have only some;
        None for the split's own classes.

    Returns:
      A `Data`.

    Raises:
      UserError: if a file or the data set is missing, or the split has other classes.
    """
    names = member and member.class_names
    if images:
        paths, notes = prediction.files(images)
        source = prediction.Files(paths)
        _print_notes(notes + source.notes)
        title = f'{len(paths)} image{"s"[: len(paths) - 1]}'
        return Data(source, datasets.of_network(names, config), title)
    source = datasets.open_split(config, config.test_split, any_classes=True)
    _print_notes(source.notes)
    title = '/'.join(Path(source.name).parts[-2:])
    if member is None:
        return Data(source, classes.readable(source.class_names), title)
    labels = label_sets.fitting(source, names)
    label_set = label_sets.create(labels, source, config.num_classes, names)
    numbers = [label_set.label(label) for label in range(len(source.class_names))]
    return Data(classes.relabel(source, numbers, label_set.names), label_set.names, title, labels)


def _print_notes(notes):
    for note in notes:
        say(f'note: {note}', file=sys.stderr)
