"""The catalogue, and what `python -m architectures` makes of it."""

import ast
import dataclasses
import json
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from conftest import ROOT

import architectures
import papers
from architectures import __main__, catalogue, describe, layers, lenet, receptive_field
from architectures.entry import Entry, Paper, Theirs
from benchmarks import peers
from figures import depth, networks
from runtime.errors import UserError
from weights import releases

COUNTS = ('parameters', 'statistics', 'multiply_adds')


@pytest.fixture
def command(monkeypatch, capsys):
    """Run `python -m architectures` in this process; return its exit code, its output and its errors."""

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['architectures', *arguments])
        return __main__.main(), *capsys.readouterr()

    return call


def layers_of(name, options=None, image_size=None):
    return {layer['name']: layer for layer in describe.network(name, options, image_size)['layers']}


# The catalogue


def test_the_tables_of_the_families_are_joined():
    names = [name for family in catalogue.FAMILIES for name in family.NETWORKS]
    assert tuple(names) == architectures.names() and len(set(names)) == len(names)
    years = [min(entry.year for entry in family.NETWORKS.values()) for family in catalogue.FAMILIES]
    assert years[0] == 1998 and years[-1] == 2017
    assert {path.stem for path in (ROOT / 'architectures').glob('*.py') if '\nNETWORKS = {' in path.read_text()} == {
        family.__name__.removeprefix('architectures.') for family in catalogue.FAMILIES
    }


@pytest.mark.parametrize('name', architectures.names())
def test_an_entry_is_complete(name):
    entry = catalogue.NETWORKS[name]
    assert not list(describe.missing(name, {}))
    assert 1998 <= entry.year <= 2017 and entry.paper.short.endswith(str(entry.year))
    assert architectures.create(name).num_classes == entry.num_classes
    assert entry.differs and all(sentence.endswith('.') for sentence in entry.differs)
    if entry.unpublished:
        assert name not in papers.HEADLINES
    else:
        errors = [float(error) for error in papers.HEADLINES[name][:2] if error is not None]
        assert errors and errors == sorted(errors, reverse=True) and all(0 < error < 50 for error in errors)


def test_the_same_network_elsewhere_is_reported():
    resnet50, vgg_c = catalogue.NETWORKS['resnet50'].differs, catalogue.NETWORKS['vgg_c'].differs
    assert resnet50[0] == "resnet50 of torchvision is this network with `stride_in='3x3'`, `stem_pool='padded'`."
    assert resnet50[1] == 'ResNet-50-model of Caffe is this network.'
    assert vgg_c == ('torchvision, timm and the Caffe repository do not have this network.',)


@pytest.mark.parametrize('name', architectures.names())
def test_the_options_that_it_names_are_options(name):
    quoted = ' '.join(catalogue.NETWORKS[name].differs).split('`')[1::2]
    given = [code.split('=') for code in quoted if '=' in code]
    architectures.create(name, **{option: ast.literal_eval(value) for option, value in given})


# The table


@pytest.mark.slow
def test_the_table_in_a_process_of_its_own(script):
    done = script('-m', 'architectures')
    head, *rows = done.stdout.splitlines()
    assert done.returncode == 0 and not done.stderr
    assert tuple(row.split()[0] for row in rows) == architectures.names()
    (alexnet,) = (row for row in rows if row.startswith('alexnet '))
    assert 'Krizhevsky et al. 2012' in alexnet and alexnet.endswith('top-5 18.2, ten crops')
    assert '227x227x3' in alexnet and '60,965,224' in alexnet and '724,406,816' in alexnet
    assert alexnet.index('724,406,816') + len('724,406,816') == head.index('multiply-adds') + len('multiply-adds')


class Toy(layers.Network):
    """Pixels, pooled, to classes: no more."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        return net.logits('fc', net.average('pool', images, 32, dense), dense)


TOY = Entry(
    Toy,
    paper=Paper('Nobody', 2015, 'A Toy', 'arXiv'),
    family='Toy',
    input_shape=(32, 32, 3),
    parameters=40,
    multiply_adds=30,
)
TABLE = """Nobody 2015

[toy1] table 1 @ single_224
network | top-1 | top-5
Toy     | 30.0  | 9.9   | toy ! toy: one crop
"""


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """Adds the network 'toy' as a newcomer does: to a family's table, with a recipe and a published row."""

    def add(recipe=True, published=True, **changes):
        monkeypatch.setitem(lenet.NETWORKS, 'toy', dataclasses.replace(TOY, **changes))
        monkeypatch.setattr(describe, 'ROOT', tmp_path)
        if recipe:
            (tmp_path / 'configs').mkdir()
            (tmp_path / 'configs' / 'toy.py').touch()
        if published:
            monkeypatch.setitem(papers.HEADLINES, 'toy', papers.headlines(papers.parse(TABLE))['toy'])

    return add


def test_a_new_network_appears_everywhere(toy, command, capsys):
    toy(theirs=(Theirs('torchvision', 'toy18'),))
    assert architectures.names()[3] == 'toy' and architectures.create('toy', num_classes=7).num_classes == 7
    _, row, *more = command('to?')[1].splitlines()
    assert row.split() == ['toy', 'Nobody', '2015', '32x32x3', '40', '30', 'top-5', '9.9,', 'one', 'crop'] and not more
    out = command('toy')[1]
    assert 'Paper: Nobody 2015, "A Toy", arXiv.' in out and 'toy18 of torchvision is this network.' in out
    assert 'top-1 30.0, top-5 9.9; ImageNet validation, one crop; Nobody 2015, table 1.' in out and 'Missing' not in out
    assert networks.subject('toy').title == 'toy (Nobody 2015)'
    (drawn,) = (network for network in depth.networks() if network.name == 'toy')
    assert (drawn.parameters, drawn.error, drawn.line, drawn.views) == (40, 9.9, 'others', 'one crop')
    assert peers.peer(catalogue.NETWORKS['toy']) == ('torchvision', 'toy18', {})
    release = releases.release('toy', catalogue.NETWORKS['toy'], Theirs('torchvision', 'toy18'))
    assert (release.theirs, release.pixels, release.last) == ('toy18', releases.TORCH, 'fc')


@pytest.mark.parametrize(
    'change, says',
    [
        ({'paper': None}, 'toy has no paper in NETWORKS of architectures/lenet.py'),
        ({'family': ''}, 'toy has no family in NETWORKS of architectures/lenet.py'),
        ({'parameters': None}, 'toy has no parameters in NETWORKS of architectures/lenet.py; the network has 40'),
        ({'multiply_adds': None}, 'toy has no multiply_adds in NETWORKS of architectures/lenet.py; the network has 30'),
        (
            {'statistics': 6},
            'mismatch: NETWORKS of architectures/lenet.py has 6 statistics, the network has 0',
        ),
        ({'recipe': False}, 'toy has no recipe: configs/toy.py'),
        (
            {'published': False},
            'toy has no published error: mark its row in papers/ with "! toy: HOW IT WAS TESTED", or say '
            'unpublished=True in NETWORKS of architectures/lenet.py',
        ),
    ],
)
def test_what_a_new_network_lacks_is_reported_in_one_line(toy, command, change, says):
    toy(**change)
    code, out, _ = command('to?')
    assert code == 0 and out.splitlines()[2:] == [f'  {says}']
    assert f'- {says}' in ' '.join(command('toy')[1].split())
    if not says.startswith('mismatch'):
        assert json.loads(command('to?', '--json')[1])[0]['missing'] == [says]


def test_a_network_without_counts_is_not_drawn(toy):
    toy(parameters=None)
    assert 'toy' not in [network.name for network in depth.networks()]


def test_a_new_network_without_errors_or_readers(toy, command):
    toy(published=False, unpublished=True)
    assert len(command('to?')[1].splitlines()) == 2
    with pytest.raises(
        UserError, match='^toy: no reader for Toy weights by darknet in _READERS of weights/releases.py$'
    ):
        releases.release('toy', catalogue.NETWORKS['toy'], Theirs('darknet', 'toy'))
    with pytest.raises(ValueError, match='^"! toy" does not say how toy was tested: "! toy: one crop"$'):
        papers.parse(TABLE.replace('toy: one crop', 'toy'))
    assert peers.peer(catalogue.NETWORKS['toy']) is None


@pytest.mark.parametrize(
    'old, new, says',
    [
        ('30.0', '3o.0', "'3o.0' is in a column of errors and is neither a number nor -"),
        (' @ single_224', '', "'toy' has no protocol: append"),
        ('[toy1]', 'toy1', "'toy1 table 1 @ single_224' is not the first line of a table"),
        ('| top-1 | top-5', '| top1 | top5', 'names networks, and its table has 0 groups of error columns'),
    ],
)
def test_a_fault_in_the_file_of_a_paper_is_reported_with_its_name(tmp_path, old, new, says):
    (tmp_path / 'nobody2015.txt').write_text(TABLE.replace(old, new))
    with pytest.raises(ValueError) as error:
        papers.read(tmp_path / 'nobody2015.txt')
    assert str(error.value).startswith('papers/nobody2015.txt: ') and says in str(error.value)


def test_an_image_that_the_table_does_not_name(toy, command):
    toy(input_shape=(32, 32))
    code, _, err = command('toy')
    assert code == 2 and err.startswith('architectures: error: toy does not work with images of 32x32 (ValueError')


def test_a_family_file_that_is_not_listed(command, monkeypatch, tmp_path):
    monkeypatch.setattr(catalogue, 'FOLDER', tmp_path)
    (tmp_path / 'toynet.py').write_text("import x\n\nNETWORKS = {\n    'toynet': Entry(),\n}\n")
    code, _, err = command('toynet')
    assert code == 2 and len(err.splitlines()) == 1
    assert "no architecture 'toynet': it is in architectures/toynet.py, which architectures/catalogue.py lacks" in err
    with pytest.raises(UserError, match="no architecture 'toynett'.* `python -m architectures` lists them"):
        architectures.create('toynett')


def test_a_fault_in_a_family_file_is_reported_with_its_line(command, monkeypatch):
    monkeypatch.setattr(layers.Layers, 'max_pool', lambda self, name: None)
    _, _, err = command('lenet5')
    number = next(
        number
        for number, line in enumerate((ROOT / 'architectures' / 'lenet.py').read_text().splitlines(), start=1)
        if 'net.max_pool(' in line
    )
    assert err.rstrip().endswith(f'given, architectures/lenet.py, line {number})')


def test_the_table_has_what_the_network_has(command, monkeypatch):
    wrong = dataclasses.replace(catalogue.NETWORKS['lenet5'], parameters=61_707, multiply_adds=1)
    monkeypatch.setitem(lenet.NETWORKS, 'lenet5', wrong)
    _, row, *notes = command('lenet?')[1].splitlines()
    assert '61,706' in row
    table = 'NETWORKS of architectures/lenet.py'
    assert notes[0] == f'  mismatch: {table} has 61,707 parameters, the network has 61,706'
    assert notes[1].startswith(f'  mismatch: {table} has 1 multiply_adds, the network has ')
    (entry,) = json.loads(command('lenet?', '--json')[1])
    assert entry['parameters'] == 61_706 and entry['catalogue'] == {'parameters': 61_707, 'multiply_adds': 1}
    monkeypatch.undo()
    assert len(command('lenet?')[1].splitlines()) == 2


def test_a_pattern_and_json(command):
    code, out, _ = command('vgg_?', '--json')
    found = json.loads(out)
    assert code == 0 and [entry['name'] for entry in found] == ['vgg_a', 'vgg_b', 'vgg_c', 'vgg_d', 'vgg_e']
    assert {'year', 'paper', 'input_shape', 'num_classes', 'published', *COUNTS} <= set(found[3])
    assert found[3]['parameters'] == 138_357_544 and found[3]['input_shape'] == [224, 224, 3]
    assert found[3]['published']['top5'] == '7.5' and 'Simonyan and Zisserman 2014' in found[3]['paper']
    assert all('lenet' not in row for row in command('resnet2*')[1].splitlines())


def test_an_unknown_name_in_a_process_of_its_own(script):
    done = script('-m', 'architectures', 'vgg_dd')
    assert done.returncode == 2 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith('architectures: error: ') and 'did you mean vgg_d?' in line


@pytest.mark.parametrize(
    'arguments, says',
    [
        (('resnt*',), 'did you mean resnet'),
        (('vgg_d', '--option', 'colum=A'), 'did you mean column?'),
        (('vgg_d', '--option', 'column'), 'pass KEY=VALUE'),
        (('vgg_d', '--option', 'column=Q'), 'column must be one of A, A-LRN, B, C, D, E'),
        (('resnet50', '--option', 'shortcut=Z'), 'shortcut must be one of A, A_centered, B, C, none'),
        (('alexnet', '--option', 'name=x'), "does not work with name='x'"),
        (('alexnet', '--option', 'num_classes=0'), 'fc8 is empty'),
        (('vgg_*', '--option', 'column=A'), 'need the name of one network'),
        (('vgg_d', '--image_size', '200'), 'smaller than its training size'),
        (('lenet5_1998', '--image_size', '8'), 'smaller than its training size'),
        (('vgg_d', '--image_size', 'large'), 'image_size'),
        (('vgg_d', '--jsn'), '--jsn'),
    ],
)
def test_what_a_user_gets_wrong_is_reported_in_one_line(command, arguments, says):
    code, out, err = command(*arguments)
    (line,) = err.splitlines()
    assert code == 2 and not out and line.startswith('architectures: error: ') and says in line


def test_a_reader_who_has_seen_enough(script):
    print_them = [sys.executable, '-m', 'architectures', 'resnet152', '--json']
    process = subprocess.Popen(print_them, cwd=ROOT, env=script.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b'{\n'
    process.stdout.close()
    assert process.wait(60) == 0 and not process.stderr.read()
    process.stderr.close()


# The layers of a network


def test_the_layers_of_vgg(command):
    code, out, _ = command('vgg_d')
    entry = catalogue.NETWORKS['vgg_d']
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert ['conv5_3', '14x14x512', '3x3x512x512', '2,359,808', '462,422,016', '196', '16'] in lines
    assert ['pool5', '7x7x512', '212', '32'] in lines
    assert ['total', f'{entry.parameters:,}', f'{entry.multiply_adds:,}'] in lines
    assert str(entry.paper) in ' '.join(out.split()) and 'top-1 24.8, top-5 7.5' in out
    assert ' '.join(entry.differs) in ' '.join(out.replace('\n- ', ' ').split())


@pytest.mark.parametrize('name', ['lenet5_1998', 'alexnet', 'googlenet', 'prelu_net_a', 'wrn_40_4', 'se_resnet50'])
def test_the_layers_add_up(name):
    found, entry = describe.network(name), catalogue.NETWORKS[name]
    for count in COUNTS:
        assert sum(layer[count] for layer in found['layers']) == found[count] == getattr(entry, count)
    json.dumps(found)


def test_layers_come_in_the_order_in_which_they_run():
    names = list(layers_of('resnet50'))
    block = [f'conv2_x/block1/{layer}' for layer in ('conv1', 'conv2', 'conv3', 'projection')]
    assert names[:6] == ['conv1', 'pool1', *block] and names[-3:] == ['conv5_x', 'pool5', 'fc']
    assert names == list(layers_of('resnet50', {'scan': True, 'remat': True}))


def test_the_layers_of_lenet():
    found = {name: (layer['parameters'], layer['multiply_adds']) for name, layer in layers_of('lenet5_1998').items()}
    assert found == {
        **{'C1': (156, 117_600), 'S2': (12, 0), 'C3': (1_516, 150_000), 'S4': (32, 0)},
        **{'C5': (48_120, 48_000), 'F6': (10_164, 10_080), 'output': (0, 0)},
    }


def test_options(command):
    code, out, _ = command('resnet50', '--option', 'stride_in=3x3', '--option', 'num_classes=10', '--json')
    found = json.loads(out)
    assert code == 0 and found['options'] == {'stride_in': '3x3', 'num_classes': 10}
    assert found['parameters'] == 25_557_032 - 990 * 2_049
    assert found['multiply_adds'] == 4_089_184_256 - 990 * 2_048


def test_another_size_is_read_dense():
    found = layers_of('vgg_d', image_size=256)
    assert found['fc8']['output_shape'] == (2, 2, 1000) and found['fc8']['stride'] == 32
    assert found['fc8']['multiply_adds'] == 4 * 4_096_000
    assert layers_of('resnet50', image_size=256)['pool5']['receptive_field'] == 483 + 6 * 32


# Receptive fields


@pytest.mark.parametrize(
    'name, options, layer, size, stride',
    [
        ('alexnet', {}, 'conv5', 163, 16),
        ('alexnet', {}, 'pool5', 195, 32),
        ('alexnet', {}, 'fc6', 355, None),
        ('bn_inception', {}, 'inception_5b', 699, 32),
        ('lenet5_1998', {}, 'S4', 16, 4),
        ('prelu_net_a', {}, 'spp', 301 + 13 * 16, None),
        ('resnet50', {}, 'conv5_x', 483, 32),
        ('resnet50', {'stride_in': '3x3'}, 'conv5_x', 427, 32),
        ('resnet50', {'shortcut': 'A'}, 'conv5_x', 483, 32),
        ('resnet50', {}, 'pool5', None, None),
        ('se_resnet50', {}, 'conv5_x', 483, 32),
        ('se_resnet50', {}, 'conv2_x/block1/gate/squeeze', None, None),
    ],
)
def test_known_receptive_fields(name, options, layer, size, stride):
    found = layers_of(name, options)[layer]
    assert (found['receptive_field'], found['stride']) == (size, stride)


def test_an_activation_sees_its_receptive_field_and_no_more():
    """With weights of 1, an activation of a 20-layer ResNet is 0 unless it depends on a nonzero pixel."""
    model = architectures.create('resnet20')
    images = jnp.zeros((1, 96, 32, 3))
    with layers.plain_forms():
        variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, dense=True))
        ones = jax.tree_util.tree_map_with_path(
            lambda path, leaf: jnp.full(leaf.shape, float(path[-1].key in ('kernel', 'scale', 'var'))), variables
        )

        def stage2(images):
            return architectures.activations(model, ones, images, dense=True)['stage2']

        (field,) = receptive_field.fields(jax.make_jaxpr(stage2)(images), [receptive_field.IMAGE])
        row = 24
        first, last = field.first + row * field.stride, field.last + row * field.stride
        assert (field.size, field.stride, first, last) == (37, 2, 30, 67)
        run = jax.jit(lambda at: stage2(images.at[:, at].set(1))[0, row].any())
        assert [bool(run(at)) for at in (first - 1, first, last - 1, last)] == [False, True, True, False]
