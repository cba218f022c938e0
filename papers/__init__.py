"""The papers' tables of errors, in percent, as they print them: the only home of published errors.

`papers/NAME.txt` has a paper's tables. Its first line is the paper; a table is

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

After it, `! vgg_d: dense, three scales` makes the row the headline of a network of ours, which lists and figures give,
and says how the images were viewed; `! resnet20: CIFAR-10 test: one run`, where they are not ImageNet's of validation.
"""

import re
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent


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


class Headline(NamedTuple):
    """The published error of a network that lists and figures give.

    Fields:
      top1, top5: the digits that are printed, '4.00'; None where not given.
      protocol: how the images were viewed; also which reading of the network, where it is not our default.
      source: the paper and its table.
      dataset: the images.
    """

    top1: str | None
    top5: str | None
    protocol: str
    source: str
    dataset: str

    @property
    def brief(self):
        """One figure, top-5 where there is one, and the protocol."""
        where = '' if self.dataset.startswith('ImageNet') else f'{self.dataset}, '
        return f'{self._errors()[-1]}, {where}{self.protocol}'

    def __str__(self):
        return f'{", ".join(self._errors())}; {self.dataset}, {self.protocol}; {self.source}'

    def _errors(self):
        return [f'{name} {error}' for name, error in (('top-1', self.top1), ('top-5', self.top5)) if error is not None]


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
      headline: (our network, images, how they were viewed), or None.
    """

    label: str
    members: tuple
    top1: Decimal | None
    top5: Decimal | None
    test5: Decimal | None
    source: str
    note: str = ''
    is_quoted: bool = False
    headline: tuple | None = None

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
    if '/' in recipe and ':' not in recipe:
        return Origin(release=recipe)
    return Origin(recipe.removeprefix('~'), start, is_theirs=recipe.startswith('~'))


def _members(text, protocol):
    """The members of what a line says that it is of."""
    members = []
    for part in reversed(text.split(' + ')):  # one without a protocol has that of the next
        part, _, own = part.partition(' @ ')
        protocol = own or protocol
        times, _, one = part.partition(' x ') if ' x ' in part else ('1', '', part)
        assert protocol, f'{text}: by no protocol'
        origins = tuple(map(_origin, one.split(' or ')))
        members += [Member(origins, protocol)] * int(times)
    return tuple(reversed(members))


def _named(column, cell):
    """A cell that says what a line is of, with its column's name where it is but a number."""
    return cell if re.search('[A-Za-z]', cell) else f'{column} {cell}'


def _headline(text):
    """(our network, images, how they were viewed) of 'NETWORK: [IMAGES: ]HOW'."""
    if ': ' not in text:
        raise ValueError(f'"! {text}" does not say how {text} was tested: "! {text}: one crop"')
    network, *images, how = text.split(': ')
    return network, *(images or ['ImageNet validation']), how


def _row(label, cells, places, text, protocol, source, note):
    """The `Row` of one group of a line; a quoted one has for its members where they stand."""
    numbers = {role: _number(cells[place]) for role, place in places.items()}
    value = {role: number for role, (number, _) in numbers.items()}
    if any(of_server for _, of_server in numbers.values()):
        value = {'test5': value['top5']}
    text, _, mark = text.partition(' ! ')
    quoted = text.startswith('= ')
    members = text.removeprefix('= ') if quoted else _members(text, protocol) if text else ()
    errors = (value.get(role) for role in ('top1', 'top5', 'test5'))
    return Row(label, members, *errors, source, note, quoted, _headline(mark) if mark else None)


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


TABLES = _resolved(
    {name: table for path in sorted(FOLDER.glob('*.txt')) for name, table in parse(path.read_text()).items()}
)


def headlines(tables):
    """{our network: `Headline`} of {name: `Table`}."""
    chosen = {}
    for row in (row for table in tables.values() for row in table.rows if row.headline):
        network, images, how = row.headline
        errors = [None if error is None else str(error) for error in (row.top1, row.top5)]
        if network in chosen:
            raise ValueError(f'two rows are the headline of {network}: {chosen[network].source}; {row.source}')
        chosen[network] = Headline(*errors, how, row.source, images)
    return chosen


HEADLINES = headlines(TABLES)
