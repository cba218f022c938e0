"""Several runs with one command: an ensemble, VGG's stages, the decade. Each has its own folder, and resumes."""

import json
from pathlib import Path

import jax

from architectures.catalogue import NETWORKS
from runtime import distributed
from runtime.errors import UserError, nearest
from runtime.files import write_atomically
from training import loop, workdir
from training.log import read

TABLE = 'table.json'


def train(config, folder, started=None, say=print):
    """Train the members of a series in their order, each in its own folder below `folder`.

    Finished members are skipped, and an interrupted one resumes. After each member, the table of all members so far is
    written to table.json and table.md.

    Args:
      config: from `configs/series.py`: `members`, {name: config}, and their `order`. A member's `init_from` may name an
        earlier member.
      folder: the folder of the series.
      started: see `loop.train`.
      say: prints a line.

    Returns:
      The table's rows, one dict per member.

    Raises:
      UserError, loop.Interrupted: see `loop.train`.
    """
    folder, rows, first = Path(folder), [], distributed.is_first()
    say = say if first else lambda line: None
    members = [(name, member(config, name, folder)) for name in config.order]
    for number, (name, member_config) in enumerate(members, start=1):
        member_folder = folder / name
        say(f'\n{number} of {len(members)}: {name}')
        if workdir.is_finished(member_folder) and workdir.contains_run_of(member_folder, member_config):
            say(f'already finished, in {member_folder}')
        else:
            loop.train(member_config, member_folder, started)
            jax.clear_caches()
        started = None
        distributed.largest(0)  # wait until the first process has written the log's last row
        rows.append(_row(name, member_config, member_folder))
        if first:
            _write(folder, rows)
    return rows


def member(config, name, folder):
    """Return the config of a member of the series in `folder`.

    Raises:
      UserError: no member has that name, or the member starts from one that does not come before it.
    """
    if name not in config.members:
        raise UserError(f'order: the series has no member {name!r}{nearest(name, list(config.members))}')
    member_config = config.members[name].copy_and_resolve_references()
    source = member_config.init_from
    if source in config.members:
        if source not in config.order[: list(config.order).index(name)]:
            raise UserError(f'{name} starts from {source}, which must come before it in order')
        member_config.init_from = str(folder / source)
    return member_config


def _row(name, config, folder):
    """Return a member's row of the table, from its log."""
    last = next(row for row in reversed(read(folder)) if row['kind'] == 'epoch')
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
    """Format the rows as a Markdown table, with the errors of the last epoch."""
    lines = [_COLUMNS, ['---', '---', *['---:'] * (len(_COLUMNS) - 2)]]
    lines += [[form.format(minutes=row['seconds'] / 60, **row) for form in _COLUMNS.values()] for row in rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def _write(folder, rows):
    for name, text in ((TABLE, json.dumps(rows, indent=2) + '\n'), ('table.md', table(rows))):
        write_atomically(folder / name, text)
