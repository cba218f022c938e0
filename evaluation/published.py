"""Which row of the papers' tables (`papers/`) a network of ours may be set beside.

python -m evaluation.published           # the tables there are
python -m evaluation.published vgg7      # one of them, as printed
"""

import dataclasses
import functools
import sys
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

import papers
from configs import checkpoint, listing
from evaluation import protocols
from input_pipeline import classes, datasets
from input_pipeline.sources import HELD_OUT
from runtime.errors import nearest
from training.log import read
from training.run import build_model, normalized_together
from weights.releases import RELEASES


def _by_name(row):
    """A row, the protocols of its members by their full names."""
    members = [member._replace(protocol=protocols.create(member.protocol).name) for member in row.members]
    return row._replace(members=tuple(members))


TABLES = {name: table._replace(rows=tuple(map(_by_name, table.rows))) for name, table in papers.TABLES.items()}


def rows():
    """The `papers.Row`s of all tables that are of networks of ours, each in the table that it was published in."""
    return tuple(row for table in TABLES.values() for row in table.rows if row.members and not row.is_quoted)


# Comparing


class Trained(NamedTuple):
    """How a network came to its weights.

    Fields:
      config: of its training; of converted weights the one that they are tested with.
      release: BY/THEIRS of converted weights, or ''.
      doubts: why training or images are not known to be a paper's, whatever the config is, in words.
    """

    config: ConfigDict
    release: str = ''
    doubts: tuple = ()


def trained(entry):
    """The `Trained` of a checkpoint, from what lies beside it.

    Args:
      entry: of `opening.open_checkpoint`.
    """
    here, doubts = entry.member.config, []
    if datasets.image_folder(here.dataset, here.data_dir, here.test_split):
        doubts.append("its images are the binary version's, and these are copies in class folders")
    data, names = datasets.find(here.dataset), entry.member.class_names
    if data.any_classes and names and not classes.same_classes(names, data.class_names):
        doubts.append(f"its classes are not {data.title}'s")
    try:
        config = checkpoint.get_config(str(entry.where))
    except ValueError:  # nothing lies there: the user's is all there is
        config = here
    doubts += _pixels(here, config)
    if entry.card:
        source = entry.card['source']
        return Trained(here, f'{source["release"]}/{source["name"]}', tuple(doubts))
    ends = [row['step'] for row in read(Path(entry.where).parent.parent) if row['kind'] == 'finished']
    if not ends:
        doubts.append('the log here does not say that the run is finished')
    elif entry.chosen not in ('best', 'latest') and entry.step != ends[-1]:
        doubts.append(f'this is step {entry.step:,} of {ends[-1]:,}')
    return Trained(config, doubts=tuple(doubts))


@functools.cache
def recipe(name):
    """The config of a `papers.Origin`'s recipe."""
    name, _, member = name.partition('/')
    config = listing.load(name)
    return config.members[member] if member else config


def _release(name):
    """(our network, its `Release`) of a `papers.Origin`'s release."""
    by, theirs = name.split('/')
    return next(
        (network, release)
        for network, releases in RELEASES.items()
        for release in releases
        if (release.by, release.theirs) == (by, theirs)
    )


def is_of_data(row, config):
    """Whether a row is of the images that a config tests on, as far as their names tell."""
    origin = row.members[0].origins[0]
    of = _release(origin.release)[1].pixels if origin.release else recipe(origin.recipe)
    same = of['test_split'] == config.test_split or {of['test_split'], config.test_split} <= set(HELD_OUT)
    return config.dataset == of['dataset'] and same


def network_of(origin):
    """Our name of the network."""
    return _release(origin.release)[0] if origin.release else recipe(origin.recipe).architecture


# What may differ between a run and its recipe: nothing that is learned depends on it, or it is compared by itself.
_FREE = (
    'accumulate', 'architecture', 'architecture_options', 'data_dir', 'data_seed', 'dtype', 'init_from', 'labels',
    'log_every_steps', 'checkpoint_every_steps', 'mesh', 'on_bad_image', 'profile_steps', 'scale_lr', 'seed',
    'stall_steps', 'statistics', 'steps_per_dispatch', 'stop_at_step', 'test_batch_size', 'workers',
)  # fmt: skip
# Of a network: how it is computed, not what.
_FREE_OPTIONS = ('dtype', 'scan', 'remat', 'parent', 'name')


def differences(origin, network):
    """In what a network is not known to be one of a row, in words; [] where it is.

    Args:
      origin: `papers.Origin`.
      network: `Trained`.
    """
    if network.release:
        same = network.release == origin.release
        return [*([] if same else [f'it is of {origin}, and these are weights of {network.release}']), *network.doubts]
    if origin.release:
        return [f'it is of the weights {origin}']
    config = recipe(origin.recipe)
    found = [*_options(config, network.config), *_keys(config, network.config), *_start(origin, network.config)]
    if origin.is_theirs:
        found.append('it was trained by a recipe of theirs, which is none of ours')
    return [*found, *network.doubts]


def _pixels(tested, config):
    """In what the pixels of a test differ from those of a config, besides its protocol."""
    tested, config = (_flat({'test_crop': each.test_crop}) for each in (tested, config))
    keys = [key for key in config if key not in protocols.DECIDES and config[key] != tested.get(key)]
    return [_differs(key, config[key], tested.get(key)) for key in keys]


def _options(theirs, here):
    """In what two configs' networks differ."""
    theirs, here = build_model(theirs), build_model(here)
    if type(theirs) is not type(here):
        yield f'it is of {type(theirs).__name__}, and this is {type(here).__name__}'
        return
    for field in dataclasses.fields(theirs):
        there, ours = getattr(theirs, field.name), getattr(here, field.name)
        if field.name not in _FREE_OPTIONS and there != ours:
            yield _differs(field.name, there, ours)


def _keys(theirs, here):
    """In what two configs differ, of what the network learns by."""
    if theirs.accumulate != here.accumulate and normalized_together(theirs) != normalized_together(here):
        yield _differs('accumulate', theirs.accumulate, here.accumulate)
    theirs, here = _flat(theirs), _flat(here)
    for key in sorted(theirs.keys() | here.keys()):
        is_free = key.split('.')[0] in _FREE or key in protocols.DECIDES
        if not is_free and theirs.get(key) != here.get(key):
            yield _differs(key, theirs.get(key), here.get(key))


def _start(origin, config):
    """In what the weights of a run did not start as a row's."""
    if not config.init_from:
        return [f'it starts from the weights of {origin.start}'] if origin.start else []
    if not origin.start:
        return [_differs('init_from', '', config.init_from)]
    try:
        start = checkpoint.get_config(config.init_from)
    except ValueError:
        return [f'it starts from {origin.start}, and what {config.init_from} is of cannot be read']
    before = recipe(origin.start)
    return [f'it starts from {origin.start}, and of {config.init_from} {difference}'
            for difference in (*_options(before, start), *_keys(before, start))]  # fmt: skip


def _differs(key, there, here):
    return f'{key} is {there!r} there and {here!r} here'


def _flat(config, prefix=''):
    found = {}
    for key, value in config.items():
        is_more = isinstance(value, ConfigDict) and len(value)
        found |= _flat(value, f'{prefix}{key}.') if is_more else {prefix + key: value}
    return found


class Fit(NamedTuple):
    """A row beside networks.

    Fields:
      row: the row.
      places: which of the networks each of its members is.
      differences: in what they are not known to be the row's, in words; () where they are.
    """

    row: papers.Row
    places: tuple
    differences: tuple


def fit(row, networks, by=None):
    """The networks as a row's members, each the one that differs least; None where there are too few of them.

    Args:
      row: see `papers.Row`.
      networks: `Trained`s; some may be left over.
      by: the protocol of each, which must be the member's; None where the row's are to be run.
    """
    free, places, found = list(range(len(networks))), [], []
    for member in row.members:
        known = {network_of(origin) for origin in member.origins}
        near = [
            (min((differences(origin, networks[place]) for origin in member.origins), key=len), place)
            for place in free
            if by is None or by[place] == member.protocol
        ]
        near = [one for one in near if not one[0] or networks[one[1]].config.architecture in known]
        if not near:
            return None
        least, place = min(near, key=lambda one: len(one[0]))
        free.remove(place)
        places.append(place)
        found += least
    return Fit(row, tuple(places), tuple(dict.fromkeys(found)))


# Printing


def text(table):
    """A table as its paper prints it, in Markdown."""
    head = f'{table.source}' + (f'. {table.remark}' if table.remark else '')
    rule = [('---:' if papers.is_error(column) else '---') for column in table.columns]
    lines = [table.columns, rule, *table.lines]
    return '\n'.join([head, '', *(f'| {" | ".join(line)} |' for line in lines)])


def main(names):
    """Prints the tables of these names, or their list; the exit code."""
    wrong = [name for name in names if name not in TABLES]
    if wrong:
        print(f'evaluation.published: error: no table {wrong[0]!r}{nearest(wrong[0], TABLES)}', file=sys.stderr)
        return 2
    print('\n\n'.join(text(TABLES[name]) for name in names) or _list())
    return 0


def _list():
    width = max(map(len, TABLES))
    return '\n'.join(f'{name:{width}}  {table.source}' for name, table in TABLES.items())


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
