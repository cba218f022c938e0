"""Several runs by one command: an ensemble's members, VGG's stages, the decade. Each has its folder, and resumes."""

import json
from pathlib import Path

import jax

from architectures.catalogue import NETWORKS
from runtime import distributed
from runtime.errors import UserError, nearest
from runtime.files import write_whole
from training import loop, workdir
from training.log import read

TABLE = 'table.json'


def train(config, folder, started=None, say=print):
    """Trains the members of a series in their order, each in a folder of its own below `folder`.

    A member that is finished is passed over; the one that was interrupted goes on where it was. After each the table
    of all so far is written anew, to table.json and table.md.

    Args:
      config: of `configs/series.py`: `members`, by name a config each, and their `order`. A member's `init_from` may be
        the name of one before it.
      folder: of the series.
      started: see `loop.train`.
      say: prints a line.

    Returns:
      The table's rows, a dict a member.

    Raises:
      UserError, loop.Interrupted: see `loop.train`.
    """
    folder, rows, first = Path(folder), [], distributed.is_first()
    say = say if first else lambda line: None
    members = [(name, member(config, name, folder)) for name in config.order]
    for number, (name, one) in enumerate(members, start=1):
        here = folder / name
        say(f'\n{number} of {len(members)}: {name}')
        if loop.is_finished(here) and workdir.holds(here, one):
            say(f'finished before, in {here}')
        else:
            loop.train(one, here, started)
            jax.clear_caches()
        started = None
        distributed.largest(0)  # the first process has written the log's last line
        rows.append(_row(name, one, here))
        if first:
            _write(folder, rows)
    return rows


def member(config, name, folder):
    """The config of a member of a series that lies in `folder`.

    Raises:
      UserError: there is none of that name, or it starts from one that does not come before it.
    """
    if name not in config.members:
        raise UserError(f'order: the series has no member {name!r}{nearest(name, list(config.members))}')
    one = config.members[name].copy_and_resolve_references()
    if one.init_from in config.members:
        before = list(config.order).index(name)
        if one.init_from not in config.order[:before]:
            raise UserError(f'{name} starts from {one.init_from}, which must stand before it in order')
        one.init_from = str(folder / one.init_from)
    return one


def _row(name, config, folder):
    """What the table says of a member: from its log."""
    lines = read(folder)
    last = next(row for row in reversed(lines) if row['kind'] == 'epoch')
    return {
        'name': name,
        'architecture': config.architecture,
        'year': NETWORKS[config.architecture].year,
        'steps': last['step'],
        'epochs': last['epoch'],
        'train_error': last['train_error'],
        'test_top1_error': last['test_top1_error'],
        'test_top5_error': last['test_top5_error'],
        'num_examples': last['test_num_examples'],
        'seconds': last['time']['total'],
    }


_COLUMNS = {
    'year': '{year}',
    'network': '{name}',
    'steps': '{steps:,}',
    'epochs': '{epochs:g}',
    'training error, %': '{train_error:.2f}',
    'test error, top-1, %': '{test_top1_error:.2f}',
    'top-5, %': '{test_top5_error:.2f}',
    'minutes': '{minutes:.1f}',
}


def table(rows):
    """The rows as a Markdown table, errors of the last epoch."""
    lines = [_COLUMNS, ['---', '---', *['---:'] * (len(_COLUMNS) - 2)]]
    lines += [[form.format(minutes=row['seconds'] / 60, **row) for form in _COLUMNS.values()] for row in rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def _write(folder, rows):
    for name, text in ((TABLE, json.dumps(rows, indent=2) + '\n'), ('table.md', table(rows))):
        write_whole(folder / name, text)
