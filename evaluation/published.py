"""Find the row of the papers' tables (`papers/`) that one of our networks can be compared with.

python -m evaluation.published           # list the tables
python -m evaluation.published vgg7      # print one of them
"""

from runtime import interrupts  # first, so that Ctrl-C is handled from here on

if __name__ == '__main__':
    interrupts.listen('list')

import dataclasses
import functools
import sys
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

import papers
from configs import base, listing
from evaluation import protocols
from input_pipeline import classes, datasets
from input_pipeline.sources import HELD_OUT
from runtime import stored_config
from runtime.errors import nearest
from training import unread
from training.log import read
from training.run import build_model, normalized_together
from weights.releases import RELEASES


def _by_name(row):
    """Return a row with the full names of its members' protocols."""
    members = [member._replace(protocol=protocols.create(member.protocol).name) for member in row.members]
    return row._replace(members=tuple(members))


TABLES = {name: table._replace(rows=tuple(map(_by_name, table.rows))) for name, table in papers.TABLES.items()}


def rows():
    """Return the `papers.Row`s of our networks, each from the table that first published it."""
    return tuple(row for table in TABLES.values() for row in table.rows if row.members and not row.is_quoted)


# Comparing


class Trained(NamedTuple):
    """How the weights of a network were obtained.

    Fields:
      config: config of the training; for converted weights, the config they are tested with.
      release: BY/THEIRS of converted weights, or ''.
      doubts: reasons, as text, why training or images may differ from a paper's whatever the config says.
    """

    config: ConfigDict
    release: str = ''
    doubts: tuple = ()


def trained(checkpoint):
    """Return the `Trained` of a checkpoint, from the files stored with it.

    Args:
      checkpoint: returned by `open_checkpoint`.
    """
    tested, doubts = checkpoint.member.config, []
    if datasets.image_folder(tested.dataset, tested.data_dir, tested.test_split):
        doubts.append('its images are those of the binary version, and these are copies in class folders')
    data, names = datasets.find(tested.dataset), checkpoint.member.class_names
    if data.any_classes and names and not classes.same_classes(names, data.class_names):
        doubts.append(f"its classes are not {data.title}'s")
    try:
        config = stored_config.get_config(str(checkpoint.where))
    except ValueError:  # no config is stored there: use the one of the user
        config = tested
    doubts += _pixels(tested, config)
    if checkpoint.card:
        source = checkpoint.card['source']
        address = source.get('address', '')  # of the hub: perhaps another recipe's weights of that network
        release = address if address.startswith('hf:') else f'{source["release"]}/{source["name"]}'
        return Trained(tested, release, tuple(doubts))
    ends = [row['step'] for row in read(Path(checkpoint.where).parent.parent) if row['kind'] == 'finished']
    if not ends:
        doubts.append('the log of this run does not say that it is finished')
    elif checkpoint.chosen not in ('best', 'latest') and checkpoint.step != ends[-1]:
        doubts.append(f'this is step {checkpoint.step:,} of {ends[-1]:,}')
    return Trained(config, doubts=tuple(doubts))


@functools.cache
def recipe(name):
    """Return the config of the recipe of a `papers.Origin`."""
    name, _, member = name.partition('/')
    config = listing.load(name)
    return config.members[member] if member else config


def _release(name):
    """Return (our network, its `Release`) for the release of a `papers.Origin`."""
    by, theirs = name.split('/')
    return next(
        (network, release)
        for network, releases in RELEASES.items()
        for release in releases
        if (release.by, release.theirs) == (by, theirs)
    )


def is_of_data(row, config):
    """Return whether a row is for the images a config tests on, judging by their names."""
    origin = row.members[0].origins[0]
    data = _release(origin.release)[1].pixels if origin.release else recipe(origin.recipe)
    same = data['test_split'] == config.test_split or {data['test_split'], config.test_split} <= set(HELD_OUT)
    return config.dataset == data['dataset'] and same


def network_of(origin):
    """Return our name of a `papers.Origin`'s network."""
    return _release(origin.release)[0] if origin.release else recipe(origin.recipe).architecture


# Keys that may differ between a run and its recipe: they do not affect what is learned, or are compared separately.
_FREE = (
    'accumulate', 'architecture', 'architecture_options', 'data_dir', 'data_seed', 'dtype', 'init_from', 'labels',
    'log_every_steps', 'checkpoint_every_steps', 'mesh', 'on_bad_image', 'profile_steps', 'scale_lr', 'seed',
    'stall_steps', 'statistics', 'steps_per_dispatch', 'stop_at_step', 'test_batch_size', 'tracker', 'workers',
)  # fmt: skip
# Options of a network that change how it is computed, not what.
_FREE_OPTIONS = ('dtype', 'scan', 'remat', 'parent', 'name')


def differences(origin, network):
    """Return how a network differs, or may differ, from the origin of a row, as texts; [] if it matches.

    Args:
      origin: a `papers.Origin`.
      network: a `Trained`.
    """
    if network.release:
        same = network.release == origin.release
        return [
            *([] if same else [f'the row is for {origin}, and these are weights of {network.release}']),
            *network.doubts,
        ]
    if origin.release:
        return [f'the row is for the weights {origin}']
    config = recipe(origin.recipe)
    texts = [*_options(config, network.config), *_keys(origin.recipe, network.config), *_start(origin, network.config)]
    if origin.is_theirs:
        texts.append('it was trained with a recipe of its authors that is not one of ours')
    return [*texts, *network.doubts]


def _pixels(tested, config):
    """Return how the pixels of a test differ from those of a config, apart from the protocol."""
    tested, config = (base.flat({'test_crop': each.test_crop}) for each in (tested, config))
    keys = [key for key in config if key not in protocols.DECIDES and config[key] != tested.get(key)]
    return [_differs(key, config[key], tested.get(key)) for key in keys]


def _options(theirs, here):
    """Yield how the networks of two configs differ."""
    theirs, here = build_model(theirs), build_model(here)
    if type(theirs) is not type(here):
        yield f'the row is for {type(theirs).__name__}, and this is {type(here).__name__}'
        return
    for field in dataclasses.fields(theirs):
        there, ours = getattr(theirs, field.name), getattr(here, field.name)
        if field.name not in _FREE_OPTIONS and there != ours:
            yield _differs(field.name, there, ours)


@functools.cache
def _keys_of_recipe(name):
    return base.flat(recipe(name))


def _keys(name, here):
    """Yield the keys that affect learning in which a config differs from the recipe of a `papers.Origin`."""
    theirs = recipe(name)
    if theirs.accumulate != here.accumulate and normalized_together(theirs) != normalized_together(here):
        yield _differs('accumulate', theirs.accumulate, here.accumulate)
    there, ours = _keys_of_recipe(name), base.flat(here)
    for key in sorted(there.keys() | ours.keys()):
        if there.get(key) == ours.get(key) or key.split('.')[0] in _FREE or key in protocols.DECIDES:
            continue
        if not (key in there and key in ours and unread.why(theirs, key) and unread.why(here, key)):
            yield _differs(key, there.get(key), ours.get(key))


def _start(origin, config):
    """Return how the initial weights of a run differ from those of a row."""
    if not config.init_from:
        return [f'it starts from the weights of {origin.start}'] if origin.start else []
    if not origin.start:
        return [_differs('init_from', '', config.init_from)]
    try:
        start = stored_config.get_config(config.init_from)
    except ValueError:
        return [f'it starts from {origin.start}, and the config of {config.init_from} cannot be read']
    before = recipe(origin.start)
    return [f'it starts from {origin.start}, and in {config.init_from} {difference}'
            for difference in (*_options(before, start), *_keys(origin.start, start))]  # fmt: skip


def _differs(key, there, here):
    return f'{key} is {there!r} there and {here!r} here'


class Fit(NamedTuple):
    """A row matched to networks.

    Fields:
      row: the row.
      places: index of the network for each of its members.
      differences: how the networks differ, or may differ, from the row's, as texts; () if they match.
    """

    row: papers.Row
    places: tuple
    differences: tuple


def fit(row, networks, by=None):
    """Assign networks to the members of a row, each the one that differs least; None if there are too few networks.

    Args:
      row: see `papers.Row`.
      networks: list of `Trained`; some may be left over.
      by: protocol of each network, which must equal the member's; None to run the row's protocols.
    """
    free, places, texts = list(range(len(networks))), [], []
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
        texts += least
    return Fit(row, tuple(places), tuple(dict.fromkeys(texts)))


# Printing


def text(table):
    """Return a table as its paper prints it, in Markdown."""
    head = f'{table.source}' + (f'. {table.remark}' if table.remark else '')
    rule = [('---:' if papers.is_error(column) else '---') for column in table.columns]
    lines = [table.columns, rule, *table.lines]
    return '\n'.join([head, '', *(f'| {" | ".join(line)} |' for line in lines)])


def main(names):
    """Print the named tables, or list all of them; return the exit code."""
    if {'-h', '--help'} & {*names}:
        print(__doc__.strip())
        return 0
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
    sys.exit(main(sys.argv[1:]) or (2 if interrupts.output_failed() else 0))
