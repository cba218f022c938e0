"""A paper's table, its rows run on the checkpoints that are given."""

from typing import NamedTuple

import papers
from evaluation import opening, protocols, published
from runtime.errors import UserError, nearest


class Planned(NamedTuple):
    """A row of a table, and what it is run on.

    Fields:
      row: of `published`.
      members: the checkpoints, in the row's order; () where it is not run.
      reason: why not.
    """

    row: papers.Row
    members: tuple
    reason: str


def plan(name, opened):
    """The rows of a table, and the checkpoints that each takes.

    Args:
      name: of `published.TABLES`.
      opened: of `opening.open_checkpoint`.

    Returns:
      A `Planned` for each row, in the order of the table.

    Raises:
      UserError: no such table, or no row of it can be run.
    """
    if name not in published.TABLES:
        known = ', '.join(published.TABLES)
        raise UserError(f'no table {name!r}{nearest(name, published.TABLES)} There are: {known}.')
    opened = list({str(entry.where): entry for entry in opened}.values())  # none is two networks of an ensemble
    networks = [published.trained(entry) for entry in opened]
    planned = [_planned(row, opened, networks) for row in published.TABLES[name].rows]
    if not any(one.members for one in planned):
        near = next((f'; {one.row.label}: {one.reason}' for one in planned if one.reason not in _NOTHING), '')
        raise UserError(f'no row of table {name} is of these checkpoints{near}. It is of: {_networks(planned)}')
    return planned


NONE_OF_OURS, NOT_GIVEN, OTHER_DATA = _NOTHING = 'no network of ours', 'no checkpoint given', 'of other data'


def _planned(row, opened, networks):
    if not row.members:
        return Planned(row, (), NONE_OF_OURS)
    if not published.is_of_data(row, opened[0].member.config):
        return Planned(row, (), OTHER_DATA)
    fit = published.fit(row, networks)
    if not fit:
        return Planned(row, (), NOT_GIVEN)
    if fit.differences:
        return Planned(row, (), fit.differences[0])
    members = zip(fit.places, row.members, strict=True)
    return Planned(row, tuple((opened[place], member.protocol) for place, member in members), '')


def _networks(planned):
    origins = (origin for one in planned for member in one.row.members for origin in member.origins)
    return ', '.join(dict.fromkeys(map(published.network_of, origins))) or 'no network of ours'


def run(planned, tested, trim=False):
    """Runs the rows of a table whose checkpoints are there.

    Args:
      planned: of `plan`.
      tested: (number of the row, its checkpoints, each under its protocol) -> the result of `testing.test`.
      trim: whether dense passes are trimmed.

    Returns:
      [(`Planned`, result or None)].
    """
    done = []
    for number, one in enumerate(planned):
        members = [
            opening.under(entry, protocol, trimmed=trim and protocols.create(protocol).is_dense)
            for entry, protocol in one.members
        ]
        done.append((one, tested(number, members) if members else None))
    return done


def lines(name, done):
    """The table as text, of what `run` returns."""
    yield f'| {published.TABLES[name].source} | protocol | published | test images | here | images |'
    yield '| --- | --- | ---: | ---: | ---: | ---: |'
    for one, result in done:
        row, by, here, images = one.row, one.row.protocols, one.reason, ''
        if result:
            by = list(
                dict.fromkeys([result['protocol']] if isinstance(result['protocol'], str) else result['protocol'])
            )
            here, images = f'{result["top1_error"]:.2f}/{result["top5_error"]:.2f}', f'{result["num_examples"]:,}'
        server = '' if row.test5 is None else row.test5
        yield f'| {row.label} | {" + ".join(by)} | {row.errors} | {server} | {here} | {images} |'


def values(done):
    """The table as JSON values, of what `run` returns."""
    return [
        {
            'label': row.label,
            'networks': [' or '.join(map(str, member.origins)) for member in row.members],
            'protocols': [member.protocol for member in row.members],
            **{key: None if getattr(row, key) is None else str(getattr(row, key)) for key in ('top1', 'top5', 'test5')},
            'table': row.source,
            'note': row.note,
            'here': result,
            'reason': one.reason,
        }
        for one, result in done
        for row in [one.row]
    ]
