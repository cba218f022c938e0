"""Checkpoints and data that figures are drawn from, with the words that a title says of them."""

import sys
from pathlib import Path
from typing import NamedTuple

import evaluation
from evaluation import label_sets, opening, prediction, scoring
from input_pipeline import classes, datasets
from runtime.errors import UserError


class Opened(NamedTuple):
    """A checkpoint of a figure.

    Fields:
      member: its network and weights, see `scoring.Member`.
      title: which network, from which checkpoint.
      card: its passport, or None.
      entry: what `evaluation.test` takes.
    """

    member: scoring.Member
    title: str
    card: dict | None
    entry: opening.Opened


class Data(NamedTuple):
    """Images of a figure.

    Fields:
      source: see `input_pipeline.sources`; images without labels have the label -1.
      names: of the classes.
      title: which images.
      labels: what `evaluation.test` calls them, where they are of some of the network's classes alone.
    """

    source: object
    names: tuple
    title: str
    labels: str = ''


def open_one(config, checkpoint, step='best', protocol='single'):
    """The only checkpoint of a figure.

    Args:
      config: its config, with the command line's changes.
      checkpoint: [its path].
      step: of a workdir, 'best', 'latest' or a number.
      protocol: how it looks at images (`evaluation.protocols`).

    Raises:
      UserError: more than one checkpoint, or what `evaluation.open_checkpoint` raises.
    """
    if len(checkpoint) != 1:
        raise UserError(f'this figure is drawn from one --checkpoint, and {len(checkpoint)} are given')
    entry = evaluation.open_checkpoint(config, checkpoint[0], step, protocol)
    return Opened(entry.member, title(entry), entry.card, entry)


def open_several(config, checkpoint, step='best'):
    """The checkpoints of a figure that compares them, each with its own config, the data those of the first.

    Args:
      config: of the first, with the command line's changes.
      checkpoint: their paths.
      step: of each that is a workdir, 'best', 'latest' or a number.

    Returns:
      [`Opened`].

    Raises:
      UserError: what `evaluation.open_members` raises.
    """
    found = evaluation.open_members(config, checkpoint, step)
    return [Opened(entry.member, title(entry), entry.card, entry) for entry in found]


def title(entry):
    """'alexnet, my_run, step 9,000' of what `evaluation.open_checkpoint` gives; of converted weights their file."""
    where = entry.where.absolute()
    whence = f'converted from {entry.card["source"]["file"]}' if entry.card else f'step {entry.step:,}'
    words = entry.member.config.architecture, where.parent.parent.name or str(where.parent), whence
    return ', '.join(dict.fromkeys(words))


def open_data(config, images=(), member=None):
    """The images that a figure shows: files that a user names, or the config's test split.

    Args:
      config: of the checkpoint, with the command line's changes.
      images: paths of files and folders.
      member: the network (`scoring.Member`) in whose classes the labels are to count; the split may have but some of
        them. None: in the split's own, whatever the network's are.

    Raises:
      UserError: what is not there, or other classes.
    """
    names = member and member.class_names
    if images:
        found, notes = prediction.files(images)
        source = prediction.Files(found)
        _tell(notes + source.notes)
        title = f'{len(found)} image{"s"[: len(found) - 1]}'
        return Data(source, datasets.of_network(names, config), title)
    source = datasets.open_split(config, config.test_split, any_classes=True)
    _tell(source.notes)
    title = '/'.join(Path(source.name).parts[-2:])
    if member is None:
        return Data(source, classes.readable(source.class_names), title)
    labels = label_sets.fitting(source, names)
    chosen = label_sets.create(labels, source, config.num_classes, names)
    numbers = [chosen.label(label) for label in range(len(source.class_names))]
    return Data(classes.relabel(source, numbers, chosen.names), chosen.names, title, labels)


def _tell(notes):
    for note in notes:
        print(f'note: {note}', file=sys.stderr)
