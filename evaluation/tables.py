"""A paper's table, its rows run on the checkpoints that are given."""

from errors import UserError, nearest
from evaluation import opening, protocols, published, report


def plan(name, opened):
    """The rows of a table, and the checkpoints that each takes.

    Args:
      name: of `published.TABLES`.
      opened: of `opening.open_checkpoint`.

    Returns:
      [(row, its checkpoints)], in the order of the table; none where one is missing.

    Raises:
      UserError: no such table, or no row of it can be run.
    """
    if name not in published.TABLES:
        known = ', '.join(published.TABLES)
        raise UserError(f'no table {name!r}{nearest(name, published.TABLES)} There are: {known}.')
    rows = [(row, _takes(row, opened)) for row in published.TABLES[name]]
    if not any(found for _, found in rows):
        wanted = ', '.join(dict.fromkeys(network for row, _ in rows for network in row.networks))
        raise UserError(f'table {name} has no row of these checkpoints: it is of {wanted}')
    return rows


def _takes(row, opened):
    free, found = list(opened), []
    for network in row.networks:
        fits = [
            number
            for number, entry in enumerate(free)
            if entry.member.config.architecture == network
            and published.is_of(row, network, entry.member.model, report.trained_sides(entry))
        ]
        if not fits:
            return ()
        found.append(free.pop(fits[0]))
    return tuple(found)


def run(rows, tested, trim=False):
    """Runs the rows of a table whose checkpoints are there.

    Args:
      rows: of `plan`.
      tested: (number of the row, its checkpoints under its protocol) -> the result of `testing.test`.
      trim: whether dense passes are trimmed.

    Returns:
      [(row, result or None)].
    """
    done = []
    for number, (row, members) in enumerate(rows):
        trimmed = trim and protocols.create(row.protocol).is_dense
        members = [opening.under(entry, row.protocol, trimmed=trimmed) for entry in members]
        done.append((row, tested(number, members) if members else None))
    return done


def lines(name, done):
    """The table as text, of what `run` returns."""
    yield f'| {published.TABLES[name][0].table} | protocol | published | here | images |'
    yield '| --- | --- | ---: | ---: | ---: |'
    for row, result in done:
        network = ' + '.join(dict.fromkeys(row.networks))
        if len(set(row.networks)) == 1 < len(row.networks):
            network += f' x {len(row.networks)}'
        if row.trained:
            network += f', S = {"-".join(map(str, dict.fromkeys(row.trained)))}'
        if row.note:
            network += f', {row.note}'
        here, images = 'no checkpoint given', ''
        if result:
            here, images = f'{result["top1_error"]:.2f}/{result["top5_error"]:.2f}', f'{result["num_examples"]:,}'
        yield f'| {network} | {row.protocol} | {row.errors} | {here} | {images} |'
