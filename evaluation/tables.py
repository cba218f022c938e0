"""Run the rows of a paper's table on the given checkpoints."""

from typing import NamedTuple

import papers
from evaluation import protocols, published
from evaluation.checkpoint import with_protocol
from runtime.errors import UserError, nearest


class Planned(NamedTuple):
    """A row of a table and the checkpoints to run it on.

    Fields:
      row: a `papers.Row`.
      members: [(checkpoint, protocol)] in the row's order; () if the row is not run.
      reason: why it is not run.
    """

    row: papers.Row
    members: tuple
    reason: str


def plan(name, checkpoints):
    """Choose the checkpoints for each row of a table.

    Args:
      name: a key of `published.TABLES`.
      checkpoints: list from `open_checkpoint`.

    Returns:
      A `Planned` for each row, in the order of the table.

    Raises:
      UserError: if there is no such table, or none of its rows can be run.
    """
    if name not in published.TABLES:
        known = ', '.join(published.TABLES)
        raise UserError(f'no table {name!r}{nearest(name, published.TABLES)} There are: {known}.')
    # A checkpoint that is given twice is still only one network of an ensemble.
    checkpoints = list({str(checkpoint.where): checkpoint for checkpoint in checkpoints}.values())
    networks = [published.trained(checkpoint) for checkpoint in checkpoints]
    planned = [_planned(row, checkpoints, networks) for row in published.TABLES[name].rows]
    if not any(entry.members for entry in planned):
        near = next((f'; {entry.row.label}: {entry.reason}' for entry in planned if entry.reason not in _NO_MATCH), '')
        raise UserError(f'no row of table {name} fits these checkpoints{near}. Its networks: {_networks(planned)}')
    return planned


NONE_OF_OURS, NOT_GIVEN, OTHER_DATA = _NO_MATCH = 'no network of ours', 'no checkpoint given', 'of other data'


def _planned(row, checkpoints, networks):
    if not row.members:
        return Planned(row, (), NONE_OF_OURS)
    if not published.is_of_data(row, checkpoints[0].member.config):
        return Planned(row, (), OTHER_DATA)
    fit = published.fit(row, networks)
    if not fit:
        return Planned(row, (), NOT_GIVEN)
    if fit.differences:
        return Planned(row, (), fit.differences[0])
    members = zip(fit.places, row.members, strict=True)
    return Planned(row, tuple((checkpoints[place], member.protocol) for place, member in members), '')


def _networks(planned):
    origins = (origin for entry in planned for member in entry.row.members for origin in member.origins)
    return ', '.join(dict.fromkeys(map(published.network_of, origins))) or 'no network of ours'


def run(planned, evaluate, trim=False):
    """Run the rows of a table that have checkpoints.

    Args:
      planned: from `plan`.
      evaluate: function of (index of the row, its checkpoints with their protocols) that returns the result of
        `evaluator.evaluate`.
      trim: whether to trim dense passes.

    Returns:
      [(`Planned`, result or None)].
    """
    results = []
    for number, entry in enumerate(planned):
        members = [
            with_protocol(checkpoint, protocol, trimmed=trim and protocols.create(protocol).is_dense)
            for checkpoint, protocol in entry.members
        ]
        results.append((entry, evaluate(number, members) if members else None))
    return results


def lines(name, results):
    """Yield the lines of the table, from the return value of `run`."""
    yield f'| {published.TABLES[name].source} | protocol | published | test images | here | images |'
    yield '| --- | --- | ---: | ---: | ---: | ---: |'
    for entry, result in results:
        row, by, here, images = entry.row, entry.row.protocols, entry.reason, ''
        if result:
            by = list(
                dict.fromkeys([result['protocol']] if isinstance(result['protocol'], str) else result['protocol'])
            )
            here, images = f'{result["top1_error"]:.2f}/{result["top5_error"]:.2f}', f'{result["num_examples"]:,}'
        server = '' if row.test5 is None else row.test5
        yield f'| {row.label} | {" + ".join(by)} | {row.errors} | {server} | {here} | {images} |'


def values(results):
    """Return the table as JSON values, from the return value of `run`."""
    return [
        {
            'label': row.label,
            'networks': [' or '.join(map(str, member.origins)) for member in row.members],
            'protocols': [member.protocol for member in row.members],
            **{key: None if getattr(row, key) is None else str(getattr(row, key)) for key in ('top1', 'top5', 'test5')},
            'table': row.source,
            'note': row.note,
            'here': result,
            'reason': entry.reason,
        }
        for entry, result in results
        for row in [entry.row]
    ]
