"""The papers' tables of errors, in percent, as printed. All published errors are here.

`papers/NAME.txt` has the tables of a paper. Its first line is the paper; a table is

    # a remark
    [vgg5] table 5 @ PROTOCOL
    network | evaluation | val top-1 | val top-5 | test top-5
    D       | dense      | 24.8      | 7.5       | -          | networks and protocols # a note

Error columns are named `top-1`, `top-5` or `error` (top-1 without a top-5 column), after an optional `val`, `test` or
`train`. A suffix `of ...` or `@ PROTOCOL` groups columns; each group is a `Row`: `top-1 @ single_224` is tested by that
protocol. The last field lists the networks of each group, with `;` between groups. Members of an ensemble are joined by
` + `, and `N x` repeats a member. Alternatives for a member are joined by ` or `:

    vgg_d:jitter from vgg_d:s384   a run of that recipe that starts from the weights of a run of another
    caffe/ResNet-50-model          released weights (`weights/releases.py`)
    ~resnet50                      our network, but trained in a way that is not a recipe here
    = vgg4/7                       quoted from line 7 of the table where it was published (/2: its second group)

At the end, `! vgg_d: dense, three scales` makes the row the headline of one of our networks, to show in lists and
figures, and says how the images were viewed. `! resnet20: CIFAR-10 test: one run` also names the images, if they are
not ImageNet's validation images.
"""

import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent


class Origin(NamedTuple):
    """A possible source of a network in a row.

    Fields:
      recipe: NAME:VARIANT of `configs`, or SERIES:VARIANT/MEMBER; '' for released weights.
      start: recipe of the run whose weights it starts from, or ''.
      release: BY/THEIRS of `weights/releases.py`; '' for a recipe.
      is_theirs: whether only the network is the recipe's, and not the training.
    """

    recipe: str = ''
    start: str = ''
    release: str = ''
    is_theirs: bool = False

    def __str__(self):
        return self.release or ('~' * self.is_theirs + self.recipe + f' from {self.start}' * bool(self.start))


class Member(NamedTuple):
    """A network of a row: its possible origins, and the protocol that it is tested by."""

    origins: tuple
    protocol: str


class Headline(NamedTuple):
    """The published error of a network that lists and figures show.

    Fields:
      top1, top5: the error as printed, such as '4.00', or None.
      protocol: how the images were viewed, and the version of the network if it is not our default.
      source: the paper and its table.
      dataset: the test images.
    """

    top1: str | None
    top5: str | None
    protocol: str
    source: str
    dataset: str

    @property
    def brief(self):
        """One error, top-5 if available, and the protocol."""
        where = '' if self.dataset.startswith('ImageNet') else f'{self.dataset}, '
        return f'{self._errors()[-1]}, {where}{self.protocol}'

    def __str__(self):
        return f'{", ".join(self._errors())}; {self.dataset}, {self.protocol}; {self.source}'

    def _errors(self):
        return [f'{name} {error}' for name, error in (('top-1', self.top1), ('top-5', self.top5)) if error is not None]


class Row(NamedTuple):
    """A result that a paper prints, for one network or an ensemble.

    Fields:
      label: label of the line, as printed.
      members: the networks, each a `Member`; () if none of ours corresponds.
      top1, top5: error on the validation images, or on a small data set's test images; a `Decimal` of the printed
        digits, or None.
      test5: top-5 error on ILSVRC's test images, whose labels are not public.
      source: the paper and its table.
      note: our note on the row.
      is_quoted: whether the row is quoted from another table.
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
        """The errors as papers print them: 24.4/7.2."""
        return '/'.join('-' if error is None else str(error) for error in (self.top1, self.top5))

    @property
    def is_of_recipes(self):
        """Whether there is a recipe for every member."""
        origins = [member.origins for member in self.members]
        return all(any(origin.recipe and not origin.is_theirs for origin in each) for each in origins)

    @property
    def protocols(self):
        """The distinct protocols of its members."""
        return tuple(dict.fromkeys(member.protocol for member in self.members))


class Table(NamedTuple):
    """A table of a paper.

    Fields:
      source: the paper and its table.
      remark: our remark.
      columns: names of the columns.
      lines: the cells as printed, one tuple per line.
      rows: the `Row`s in order, one for each group of columns of each line.
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
    """Whether a column of this name has errors or accuracies."""
    return bool(_COLUMN.fullmatch(column)) or column.endswith((' error', 'accuracy'))


def _groups(columns):
    """Return {(group, protocol): {role: index}} of a table's columns."""
    groups = {}
    for place, column in enumerate(columns):
        match = _COLUMN.fullmatch(column)
        if match and match[1] != 'train':
            role = _ROLES[match[2]]
            role = {'top1': 'test1', 'top5': 'test5'}[role] if match[1] == 'test' else role
            groups.setdefault((match[3] or match[4] or '', match[4] or ''), {})[role] = place
    return groups


def _number(cell):
    """Parse '6.43 (6.61±0.16)' or '8.43 (test)': the number, and whether it is for ILSVRC's test images."""
    digits, _, more = cell.partition(' ')
    try:
        return (None if digits == '-' else Decimal(digits)), more == '(test)'
    except InvalidOperation:
        raise ValueError(f'{cell!r} is in a column of errors and is neither a number nor -') from None


def _origin(text):
    recipe, _, start = text.partition(' from ')
    if '/' in recipe and ':' not in recipe:
        return Origin(release=recipe)
    return Origin(recipe.removeprefix('~'), start, is_theirs=recipe.startswith('~'))


def _members(text, protocol):
    """Parse the members of one group."""
    members = []
    for part in reversed(text.split(' + ')):  # a member without a protocol has that of the next
        part, _, member_protocol = part.partition(' @ ')
        protocol = member_protocol or protocol
        times, _, alternatives = part.partition(' x ') if ' x ' in part else ('1', '', part)
        if not protocol:
            raise ValueError(f'{text!r} has no protocol: append "@ PROTOCOL" to it, or to the title of its table')
        origins = tuple(map(_origin, alternatives.split(' or ')))
        members += [Member(origins, protocol)] * int(times)
    return tuple(reversed(members))


def _named(column, cell):
    """Return a cell of a label, with the name of its column if it is only a number."""
    return cell if re.search('[A-Za-z]', cell) else f'{column} {cell}'


def _headline(text):
    """Parse 'NETWORK: [IMAGES: ]HOW' to (our network, images, how they were viewed)."""
    if ': ' not in text:
        raise ValueError(f'"! {text}" does not say how {text} was tested: "! {text}: one crop"')
    network, *images, how = text.split(': ')
    return network, *(images or ['ImageNet validation']), how


def _row(label, cells, places, text, protocol, source, note):
    """Return the `Row` of one group of a line; the members of a quoted row are still its reference."""
    numbers = {role: _number(cells[place]) for role, place in places.items()}
    value = {role: number for role, (number, _) in numbers.items()}
    if any(is_test for _, is_test in numbers.values()):
        value = {'test5': value['top5']}
    text, _, mark = text.partition(' ! ')
    quoted = text.startswith('= ')
    members = text.removeprefix('= ') if quoted else _members(text, protocol) if text else ()
    errors = (value.get(role) for role in ('top1', 'top5', 'test5'))
    return Row(label, members, *errors, source, note, quoted, _headline(mark) if mark else None)


def parse(text):
    """Parse a paper's text to {name: `Table`}; quoted rows are not resolved yet."""
    paper, *blocks = re.split(r'\n\n+', text.strip())
    tables = {}
    for block in blocks:
        lines = block.split('\n')
        remark = ' '.join(line[2:] for line in lines if line.startswith('# '))
        head, columns, *lines = (line for line in lines if not line.startswith('# '))
        match = re.fullmatch(r'\[(\w+)\] (.+?)(?: @ (\S+))?', head)
        if not match:
            raise ValueError(f'{head!r} is not the first line of a table: "[NAME] TITLE @ PROTOCOL"')
        name, title, protocol = match.groups()
        columns, source = tuple(column.strip() for column in columns.split('|')), f'{paper}, {title.partition(":")[0]}'
        groups, printed, rows = _groups(columns), [], []
        for line in lines:
            line, _, note = line.partition(' # ')
            cells = [cell.strip() for cell in line.split('|')]
            printed.append(tuple(cells[: len(columns)]))
            networks = [part.strip() for part in ''.join(cells[len(columns) :]).split(';')]
            if sum(map(bool, networks)) > len(groups):
                raise ValueError(f'{line!r} names networks, and its table has {len(groups)} groups of error columns')
            names = [
                _named(*pair) for pair in zip(columns, cells, strict=False) if not is_error(pair[0]) and pair[1] != '-'
            ]
            for number, ((group, group_protocol), places) in enumerate(groups.items()):
                members = networks[number] if number < len(networks) else ''
                label = ', '.join([*names, group] if group != group_protocol else names)
                rows.append(_row(label, printed[-1], places, members, group_protocol or protocol, source, note))
        tables[name] = Table(f'{paper}, {title}', remark, columns, tuple(printed), tuple(rows))
    return tables


def _resolved(tables):
    """Return the tables with the members of each quoted row filled in."""

    def members(reference):
        name, line, *group = reference.split('/')
        table = tables[name]
        groups = len(table.rows) // len(table.lines)
        row = table.rows[(int(line) - 1) * groups + int(*group or (1,)) - 1]
        return members(row.members) if row.is_quoted else row.members

    def resolved(row):
        return row._replace(members=members(row.members)) if row.is_quoted else row

    return {name: table._replace(rows=tuple(map(resolved, table.rows))) for name, table in tables.items()}


def read(path):
    """Parse the file of a paper; a `ValueError` names it."""
    try:
        return parse(path.read_text())
    except ValueError as error:
        raise ValueError(f'papers/{path.name}: {error}') from error


TABLES = _resolved({name: table for path in sorted(FOLDER.glob('*.txt')) for name, table in read(path).items()})


def headlines(tables):
    """Return {our network: `Headline`} for {name: `Table`}."""
    result = {}
    for row in (row for table in tables.values() for row in table.rows if row.headline):
        network, images, how = row.headline
        errors = [None if error is None else str(error) for error in (row.top1, row.top5)]
        if network in result:
            raise ValueError(f'two rows are the headline of {network}: {result[network].source}; {row.source}')
        result[network] = Headline(*errors, how, row.source, images)
    return result


HEADLINES = headlines(TABLES)
