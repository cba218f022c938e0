"""The papers' tables of errors, in per cent, and which row a network of ours may be set beside.

    python -m evaluation.published           # the tables there are
    python -m evaluation.published vgg7      # one of them, as printed

`papers/NAME.txt` has a paper's tables as it prints them. Its first line is the paper; a table is

    # a remark
    [vgg5] table 5 @ PROTOCOL
    network | evaluation | val top-1 | val top-5 | test top-5
    D       | dense      | 24.8      | 7.5       | -          | what it is of, and by which protocol # a note

Columns of errors are called `top-1`, `top-5` or `error` (top-1 where there is no top-5), `val`, `test` or `train`
before it; what follows `of` or `@` makes groups of columns, each of which is a `Row`: `top-1 @ single_224` is by this
protocol. The last field says what each group is of, `;` between the groups: members joined by ` + `, each `N x` so
many; a member is what it may be, joined by ` or `:

    vgg_d:jitter from vgg_d:s384   a run of that recipe, its weights from a run of another
    caffe/ResNet-50-model          weights that others released (`weights/releases.py`)
    ~resnet50                      a network of ours by a training of theirs, which is no recipe here
    = vgg4/7                       quoted: the seventh line of the table where it was published (/2: its second group)
"""

import dataclasses
import functools
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from configs import checkpoint, listing
from evaluation import protocols
from input_pipeline import classes
from runtime.errors import nearest
from training.log import read
from training.run import build_model, normalized_together
from weights.releases import RELEASES

PAPERS = Path(__file__).with_name('papers')
IMAGES = {'imagenet': 50_000, 'cifar10': 10_000, 'mnist': 10_000}  # that are tested


class Origin(NamedTuple):
    """What a network of a row may be.

    Fields:
      recipe: NAME:VARIANT of `configs`, or SERIES:VARIANT/MEMBER; '' of released weights.
      start: the recipe of the run that its weights came from; '' for none.
      release: BY/THEIRS of `weights/releases.py`; '' of a recipe.
      is_theirs: the network is the recipe's, the training is none of ours.
    """

    recipe: str = ''
    start: str = ''
    release: str = ''
    is_theirs: bool = False

    def __str__(self):
        return self.release or ('~' * self.is_theirs + self.recipe + f' from {self.start}' * bool(self.start))


class Member(NamedTuple):
    """A network of a row: what it may be, and the protocol that it is tested by."""

    origins: tuple
    protocol: str


class Row(NamedTuple):
    """A result that a paper prints: of one network, or of several as an ensemble.

    Fields:
      label: the line's, as printed.
      members: see `Member`; () where none of ours is such a network.
      top1, top5: of the validation images, or of a small set's test images; a `Decimal` of the printed digits, or None.
      test5: of the images whose labels ILSVRC's server keeps.
      source: the paper and its table.
      note: what the paper does not say, or says besides.
      is_quoted: from another table, whose row it is.
    """

    label: str
    members: tuple
    top1: Decimal | None
    top5: Decimal | None
    test5: Decimal | None
    source: str
    note: str = ''
    is_quoted: bool = False

    @property
    def errors(self):
        """As papers print them: 24.4/7.2."""
        return '/'.join('-' if error is None else str(error) for error in (self.top1, self.top5))

    @property
    def is_of_recipes(self):
        """Whether there is a recipe for each of its members."""
        origins = [member.origins for member in self.members]
        return all(any(origin.recipe and not origin.is_theirs for origin in each) for each in origins)

    @property
    def protocols(self):
        """The protocols of its members, each once."""
        return tuple(dict.fromkeys(member.protocol for member in self.members))


class Table(NamedTuple):
    """A table of a paper.

    Fields:
      source: the paper and its table.
      remark: ours.
      columns: their names.
      lines: its cells as printed, a tuple a line.
      rows: `Row`s, in their order: as many a line as there are groups of columns.
    """

    source: str
    remark: str
    columns: tuple
    lines: tuple
    rows: tuple


# Reading

_COLUMN = re.compile(r'(?:(val|test|train) )?(top-1|top-5|error)(?: (?:of (.+)|@ (\S+)))?')
_ROLES = {'error': 'top1', 'top-1': 'top1', 'top-5': 'top5'}


def is_error(column):
    """Whether a column is one of errors (or accuracies), by its name."""
    return bool(_COLUMN.fullmatch(column)) or column.endswith((' error', 'accuracy'))


def _groups(columns):
    """{(group, protocol): {role: place}} of a table's columns."""
    groups = {}
    for place, column in enumerate(columns):
        match = _COLUMN.fullmatch(column)
        if match and match[1] != 'train':
            role = _ROLES[match[2]]
            role = {'top1': 'test1', 'top5': 'test5'}[role] if match[1] == 'test' else role
            groups.setdefault((match[3] or match[4] or '', match[4] or ''), {})[role] = place
    return groups


def _number(cell):
    """A cell's number as printed, and whether it is of the server's images: '6.43 (6.61±0.16)', '8.43 (test)'."""
    digits, _, more = cell.partition(' ')
    return (None if digits == '-' else Decimal(digits)), more == '(test)'


def _origin(text):
    recipe, _, start = text.partition(' from ')
    if '/' in recipe and recipe.split('/')[0] in {release.by for found in RELEASES.values() for release in found}:
        return Origin(release=recipe)
    return Origin(recipe.removeprefix('~'), start, is_theirs=recipe.startswith('~'))


def _members(text, protocol):
    """The members of what a line says that it is of."""
    found = []
    for part in reversed(text.split(' + ')):  # one without a protocol has that of the next
        part, _, own = part.partition(' @ ')
        protocol = own or protocol
        times, _, one = part.partition(' x ') if ' x ' in part else ('1', '', part)
        assert protocol, f'{text}: by no protocol'
        origins = tuple(map(_origin, one.split(' or ')))
        found += [Member(origins, protocols.create(protocol).name)] * int(times)
    return tuple(reversed(found))


def _named(column, cell):
    """A cell that says what a line is of, with its column's name where it is but a number."""
    return cell if re.search('[A-Za-z]', cell) else f'{column} {cell}'


def _row(label, cells, places, text, protocol, source, note):
    """The `Row` of one group of a line; a quoted one has for its members where they stand."""
    numbers = {role: _number(cells[place]) for role, place in places.items()}
    value = {role: number for role, (number, _) in numbers.items()}
    if any(of_server for _, of_server in numbers.values()):
        value = {'test5': value['top5']}
    quoted = text.startswith('= ')
    members = text.removeprefix('= ') if quoted else _members(text, protocol) if text else ()
    return Row(label, members, value.get('top1'), value.get('top5'), value.get('test5'), source, note, quoted)


def parse(text):
    """{name: `Table`} of a paper's text; quoted rows still say where they stand."""
    paper, *blocks = re.split(r'\n\n+', text.strip())
    tables = {}
    for block in blocks:
        lines = block.split('\n')
        remark = ' '.join(line[2:] for line in lines if line.startswith('# '))
        head, columns, *lines = (line for line in lines if not line.startswith('# '))
        name, title, protocol = re.fullmatch(r'\[(\w+)\] (.+?)(?: @ (\S+))?', head).groups()
        columns, source = tuple(column.strip() for column in columns.split('|')), f'{paper}, {title.partition(":")[0]}'
        groups, printed, rows = _groups(columns), [], []
        for line in lines:
            line, _, note = line.partition(' # ')
            cells = [cell.strip() for cell in line.split('|')]
            printed.append(tuple(cells[: len(columns)]))
            of = [part.strip() for part in ''.join(cells[len(columns) :]).split(';')]
            names = [
                _named(*pair) for pair in zip(columns, cells, strict=False) if not is_error(pair[0]) and pair[1] != '-'
            ]
            for number, ((group, own), places) in enumerate(groups.items()):
                what = of[number] if number < len(of) else ''
                label = ', '.join([*names, group] if group != own else names)
                rows.append(_row(label, printed[-1], places, what, own or protocol, source, note))
        tables[name] = Table(f'{paper}, {title}', remark, columns, tuple(printed), tuple(rows))
    return tables


def _resolved(tables):
    """The tables, each quoted row with the members of the row that it quotes."""

    def members(place):
        name, line, *group = place.split('/')
        table = tables[name]
        groups = len(table.rows) // len(table.lines)
        row = table.rows[(int(line) - 1) * groups + int(*group or (1,)) - 1]
        return members(row.members) if row.is_quoted else row.members

    def whole(row):
        return row._replace(members=members(row.members)) if row.is_quoted else row

    return {name: table._replace(rows=tuple(map(whole, table.rows))) for name, table in tables.items()}


PRINTED = {name: table for path in sorted(PAPERS.glob('*.txt')) for name, table in parse(path.read_text()).items()}
TABLES = _resolved(PRINTED)


def rows():
    """The `Row`s of all tables that are of networks of ours, each in the table that it was published in."""
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
    if here.dataset == 'cifar10' and (Path(here.data_dir) / here.test_split).is_dir():
        doubts.append("its images are the binary version's, and these are copies in class folders")
    if here.dataset == 'imagenet' and not classes.are_imagenets(entry.member.class_names):
        doubts.append("its classes are not ImageNet's")
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
    """The config of an `Origin`'s recipe."""
    name, _, member = name.partition('/')
    config = listing.load(name)
    return config.members[member] if member else config


def _release(name):
    """(our network, its `Release`) of an `Origin`'s release."""
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
    splits = ('validation', 'val', 'test') if of['dataset'] == 'imagenet' else (of['test_split'],)
    return config.dataset == of['dataset'] and config.test_split in splits


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
      origin: `Origin`.
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

    row: Row
    places: tuple
    differences: tuple


def fit(row, networks, by=None):
    """The networks as a row's members, each the one that differs least; None where there are too few of them.

    Args:
      row: see `Row`.
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


# Winners


class Winner(NamedTuple):
    """The winner of a year's classification contest (ILSVRC), or who else was measured on its test images.

    Fields:
      year: of the contest.
      entry: the team, and below it its network.
      top5: error in per cent as printed, with the contest's training images alone.
      table: where it is printed.
      convolutional: whether it is a convolutional network.
    """

    year: int
    entry: str
    top5: Decimal
    table: str
    convolutional: bool = True


WINNERS = (
    Winner(
        2010,
        'NEC-UIUC',
        Decimal('28.2'),
        'Russakovsky et al. 2015, "ImageNet Large Scale Visual Recognition Challenge"',
        False,
    ),
    Winner(2011, 'XRCE', Decimal('25.8'), 'Russakovsky et al. 2015', False),
    Winner(2012, 'SuperVision\n(AlexNet)', Decimal('16.4'), 'Szegedy et al. 2014, table 2; 15.3 with other data'),
    Winner(2013, 'Clarifai\n(after ZFNet)', Decimal('11.7'), 'Szegedy et al. 2014, table 2; 11.2 with other data'),
    Winner(2014, 'GoogLeNet', Decimal('6.67'), 'Szegedy et al. 2014, table 2'),
    Winner(2015, 'MSRA\n(ResNet)', Decimal('3.57'), 'He et al. 2015b, table 5'),
    Winner(2016, 'Trimps-Soushen\n(ensemble)', Decimal('2.99'), "ILSVRC2016's page of results: 0.02991"),
    Winner(2017, 'WMW\n(SENet)', Decimal('2.25'), 'Hu et al. 2017, section 6: 2.251'),
)
HUMAN = Winner(
    2014, 'one trained annotator', Decimal('5.1'), 'Russakovsky et al. 2015, section 6.4', False
)  # of 1,500 images


# Printing


def text(table):
    """A table as its paper prints it, in Markdown."""
    head = f'{table.source}' + (f'. {table.remark}' if table.remark else '')
    rule = [('---:' if is_error(column) else '---') for column in table.columns]
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
