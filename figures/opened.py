"""Checkpoints that figures are drawn from, with the words that a title says of them."""

from typing import NamedTuple

from errors import UserError
from evaluation import open_checkpoint, open_members, scoring


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
    return Opened(opened.member, f'{config.architecture}, {folder}, step {opened.step}', opened.card)


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
    found = []
    for opened in open_members(config, checkpoint, step):
        folder = opened.where.parent.parent.name or str(opened.where.parent)
        network = opened.member.config.architecture
        named = network if folder == network else f'{network}, {folder}'
        state = 'converted weights' if opened.card else f'step {opened.step}'
        found.append(Opened(opened.member, f'{named}, {state}', opened.card))
    return found
