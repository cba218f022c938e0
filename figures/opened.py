"""Checkpoints that figures are drawn from, with the words that a title says of them."""

from typing import NamedTuple

from errors import UserError
from evaluation import open_checkpoint, scoring


class Opened(NamedTuple):
    """A checkpoint of a figure.

    Fields:
      member: its network and weights, see `scoring.Member`.
      title: which network, from which checkpoint.
      card: its passport, or None.
    """

    member: scoring.Member
    title: str
    card: dict | None


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
    opened = open_checkpoint(config, checkpoint[0], step, protocol)
    folder = opened.where.parent.parent.name or str(opened.where.parent)
    network = config.architecture
    words = [network, *([] if folder == network else [folder]), *([] if opened.card else [f'step {opened.step}'])]
    return Opened(opened.member, ', '.join(words), opened.card)
