"""A paper's table, its rows run on the checkpoints that are given."""

from errors import UserError, nearest
from evaluation import published


def plan(name, members):
    """The rows of a table that can be run, and the members that each takes.

    Args:
      name: of `published.TABLES`.
      members: [(checkpoint, architecture, (low, high) short side of its training images, options)].

    Returns:
      [(row, indices of members)], in the order of the table; indices is () where a checkpoint is missing.

    Raises:
      UserError: no such table, or no row of it can be run.
    """
    if name not in published.TABLES:
        known = ', '.join(published.TABLES)
        raise UserError(f'no table {name!r}{nearest(name, published.TABLES)} There are: {known}.')
    rows = [(row, _takes(row, members)) for row in published.TABLES[name]]
    if not any(found for _, found in rows):
        wanted = ', '.join(dict.fromkeys(network for row, _ in rows for network in row.networks))
        raise UserError(f'table {name} has no row of these checkpoints: it is of {wanted}')
    return rows


def _takes(row, members):
    free, found = list(range(len(members))), []
    for network in row.networks:
        fits = [number for number in free if _is(members[number], network, row)]
        if not fits:
            return ()
        found.append(fits[0])
        free.remove(fits[0])
    return tuple(found)


def _is(member, network, row):
    _, architecture, sides, options = member
    if architecture != network or (row.trained and sides and tuple(sides) != row.trained):
        return False
    shortcut = row.note.removeprefix('shortcut ') if row.note.startswith('shortcut') else None
    return shortcut is None or options.get('shortcut', 'B') == shortcut


def lines(name, done):
    """The table as text: [(row, result or None)] of `plan`'s rows."""
    found = [
        f'| {published.TABLES[name][0].table} | protocol | published | here | images |',
        '| --- | --- | ---: | ---: | ---: |',
    ]
    for row, result in done:
        network = ' + '.join(row.networks) if len(set(row.networks)) > 1 else row.networks[0]
        network += f' x {len(row.networks)}' if len(row.networks) > 1 and len(set(row.networks)) == 1 else ''
        if row.trained:
            network += f', S = {"-".join(map(str, dict.fromkeys(row.trained)))}'
        network += f', {row.note}' if row.note else ''
        here, images = (
            ('no checkpoint given', '')
            if result is None
            else (
                f'{result["top1_error"]:.2f}/{result["top5_error"]:.2f}',
                f'{result["num_examples"]:,}',
            )
        )
        found.append(f'| {network} | {row.protocol} | {row.errors} | {here} | {images} |')
    return found
