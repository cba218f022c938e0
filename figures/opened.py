"""Checkpoints that figures are drawn from, with the words that a title says of them."""

from typing import NamedTuple

import evaluation
from errors import UserError
from evaluation import opening, scoring


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


def title(entry):
    """'alexnet, my_run, step 9,000' of what `evaluation.open_checkpoint` gives; of converted weights their file."""
    where = entry.where.absolute()
    whence = f'converted from {entry.card["source"]["file"]}' if entry.card else f'step {entry.step:,}'
    words = entry.member.config.architecture, where.parent.parent.name or str(where.parent), whence
    return ', '.join(dict.fromkeys(words))
