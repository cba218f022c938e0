"""What a new user meets first: names of recipes, help, narrow terminals, progress in a file, a network of one's own."""

import logging
import re
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from conftest import ROOT, digits

import architectures
import evaluation
from architectures import catalogue, describe
from architectures.layers import Network
from evaluation import report
from input_pipeline import loader, progress
from runtime import command_line, text
from runtime.errors import UserError
from training import checkpoints
from training.run import Run


@pytest.mark.parametrize(
    'given, file',
    [
        (['--config', 'lenet5_digits'], 'configs/lenet5_digits.py'),
        (['--config', 'alexnet:cifar10,epochs=3'], 'configs/alexnet.py:cifar10,epochs=3'),
        (['--config', 'alexnet:lecture', '--workdir', 'lenet5'], 'configs/alexnet.py:lecture'),
    ],
)
def test_a_recipe_is_found_by_its_name(monkeypatch, given, file):
    monkeypatch.chdir(ROOT)
    argv = command_line._with_recipes(['train.py', *given])
    assert argv == ['train.py', '--config', file, *given[2:]]


@pytest.mark.parametrize('name', ['train.py', 'evaluate.py', 'predict.py'])
def test_the_help_has_the_flags_that_all_scripts_share(script, name):
    done = script(name, '--help')
    assert done.returncode == 0 and re.search('^  --config: The experiment', done.stdout, re.MULTILINE)
    assert ('--coordinator' in done.stdout) == (name != 'predict.py')


def test_lines_of_progress_come_at_growing_intervals():
    now = [0.0]
    intervals, times = progress.Intervals(lambda: now[0]), []
    for second in range(3000):
        now[0] = second
        if intervals.are_over():
            times.append(second)
    gaps = [after - before for before, after in zip([0, *times], times, strict=False)]
    assert times[0] == 10 and gaps == sorted(gaps) and max(gaps) == 300 and len(times) < 20


def test_progress_in_a_file_is_plain_lines(monkeypatch, capsys):
    monkeypatch.setattr(progress.Intervals, 'are_over', lambda self: True)
    with progress.bar('a\x1bb', 40) as advance:
        advance(10)
        advance()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and re.fullmatch(r'a\\x1bb: 10 of 40, about 0:00 left', lines[0]), lines
    assert lines[1].startswith(r'a\x1bb: 11 of 40')


def test_lines_are_broken_between_words_on_a_terminal(monkeypatch):
    line = 'lenet5   LeNet-5 as it is taught, on MNIST, with an optimizer whose rates were published'
    assert text.wrapped(line, 9) == line
    monkeypatch.setattr(text, 'terminal_width', lambda: 40)
    lines = text.wrapped(line, 9).splitlines()
    assert len(lines) > 2 and all(len(part) <= 40 for part in lines)
    assert ' '.join(lines).split() == line.split()
    assert all(part.startswith(' ' * 9) for part in lines[1:])


@pytest.mark.parametrize('width', [80, 100])
def test_the_tables_of_networks_fit_a_narrow_terminal(width):
    lines = list(describe.table(describe.networks('vgg_*'), width))
    assert max(map(len, lines)) <= width and len(lines) == 1 + 2 * 6
    assert lines[2].startswith('  Simonyan and Zisserman 2014; published, %: ')
    wide = list(describe.table(describe.networks('vgg_*')))
    assert len(wide) == 7 and 'Simonyan' in wide[1]
    for name in ('vgg_d', 'resnet50'):
        entry = describe.network(name)
        assert max(map(len, describe.text(entry, 80).splitlines())) <= 80
        assert 'kernel' in describe.text(entry)


def test_a_test_batch_is_no_larger_than_the_split():
    assert loader.bounded_batch(500, 15) == 15 and loader.bounded_batch(500, 10_000) == 500
    assert loader.bounded_batch(500, 0) == 1


def test_images_with_channels_first_are_named():
    model = architectures.create('resnet20')
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))
    apply = model.apply
    with pytest.raises(
        UserError, match=r'conv1 reads 3 channels, and its input is \(2, 3, 32, 32\): images are \[B, H'
    ):
        jax.eval_shape(apply, shapes, jax.ShapeDtypeStruct((2, 3, 32, 32), 'float32'))


@pytest.mark.parametrize('name, size', [('lenet5', 10), ('resnet50', 1), ('vgg_d', 8)])
def test_images_that_are_too_small_are_named(name, size):
    config = digits(architecture=name, image_size=size, dataset='synthetic')
    with pytest.raises(UserError, match=f'^{name} cannot process images of {size}x{size} [(].*(too small|smaller)'):
        Run(config)


def test_resnet20_has_a_width():
    shapes = {
        width: jax.eval_shape(
            lambda width=width: architectures.create('resnet20', width=width).init(
                jax.random.key(0), jnp.zeros((1, 32, 32, 3))
            )
        )['params']['fc']['kernel'].shape
        for width in (8, 16, 32)
    }
    assert shapes == {8: (32, 10), 16: (64, 10), 32: (128, 10)}


class Tiny(Network):
    """One convolution."""

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        x = net.average('pool', net.conv('conv1', images, 8, 5, stride=2), 14, dense)
        return net.logits('fc', x, dense)


@pytest.fixture
def own():
    yield
    catalogue.OWN.clear()


def test_a_network_of_ones_own(own):
    architectures.register('tiny', Tiny, input_shape=(32, 32, 1))
    architectures.register('tiny', Tiny, input_shape=(32, 32, 1))  # a config file is read several times
    assert architectures.names()[-1] == 'tiny' and isinstance(architectures.create('tiny'), Tiny)
    described = describe.network('tiny')
    assert (described['parameters'], described['missing']) == (8 * 26 + 9 * 1000, ())
    with pytest.raises(UserError, match="'resnet50' is a network of this project: register yours under another name"):
        architectures.register('resnet50', Tiny)
    with pytest.raises(UserError, match="'a b' is not a word"):
        architectures.register('a b', Tiny)
    with pytest.raises(UserError, match='is not a class of networks: inherit from architectures.layers.Network'):
        architectures.register('other', nn.Dense)
    catalogue.OWN.clear()
    with pytest.raises(UserError, match='For one of your own, pass the --config that registers it'):
        architectures.create('tiny')


@pytest.mark.slow
def test_the_network_of_the_docs_is_trained_and_tested(tmp_path, script):
    page = (ROOT / 'docs' / 'networks.md').read_text()
    (code,) = re.findall(r'```python\n(import flax.*?)```', page, re.DOTALL)
    (tmp_path / 'mine.py').write_text(code)
    config = '--config', f'{tmp_path / "mine.py"}:epochs=1'
    trained = script('train.py', *config, '--workdir', tmp_path / 'run')
    assert trained.returncode == 0 and 'model: tiny, 298 parameters' in trained.stdout, trained.stderr
    for command in (
        ('evaluate.py', *config, '--checkpoint', tmp_path / 'run'),
        ('convert.py', *config, '--checkpoint', tmp_path / 'run', '--to', 'stablehlo', '--out', tmp_path / 'out'),
    ):
        done = script(*command)
        assert done.returncode == 0, done.stderr
    alone = script('evaluate.py', '--checkpoint', tmp_path / 'run')
    assert alone.returncode == 2 and "no architecture 'tiny'" in alone.stderr and 'Traceback' not in alone.stderr


def test_the_top_5_of_three_classes_is_left_out(monkeypatch):
    monkeypatch.setattr(report, '_member', lambda checkpoint: [])
    monkeypatch.setattr(report, 'compare', lambda *_: [])
    config = types.SimpleNamespace(architecture='lenet5', num_classes=3, dataset='folder', test_split='test')
    protocol = types.SimpleNamespace(name='single', description='one view', is_single=True)
    checkpoint = types.SimpleNamespace(member=types.SimpleNamespace(config=config, protocol=protocol))
    result = {
        'labels': '', 'num_examples': 15, 'bad_images': 0, 'left_out': 0, 'evaluated': 1, 'seconds': 40.0,
        'images_per_second': 0.025, 'compiled': 1, 'ece': 2.0, 'confidence': 90.0,
    }  # fmt: skip
    for k in (1, 5):
        result |= {f'top{k}_interval': (0.0, 1.0), f'wrong_top{k}': 0, f'top{k}_error': 0.0}
    lines = report.lines(config, [checkpoint], result)
    assert not any('top-5' in line for line in lines)
    assert lines[-1] == '1 image in 40.0 s, 40.0 s per image; 1 program compiled'
    config.num_classes = 10
    assert any('top-5' in line for line in report.lines(config, [checkpoint], result))


def test_opening_a_checkpoint_prints_no_warnings(digits_run, caplog):
    with caplog.at_level('WARNING', 'absl'):
        logging.getLogger('absl').warning('a warning of another library')
        evaluation.open_checkpoint(digits_run[0], digits_run[1])
    assert [record.message for record in caplog.records] == ['a warning of another library']


def test_orbax_warns_of_nothing_while_a_run_saves(tmp_path, caplog):
    with checkpoints.Checkpoints(tmp_path / 'checkpoints'), caplog.at_level('WARNING', 'absl'):
        for library in ('orbax', 'other'):
            where = {'name': 'absl', 'levelno': logging.WARNING, 'pathname': f'/site-packages/{library}/manager.py'}
            logging.getLogger('absl').handle(logging.makeLogRecord(where | {'msg': library}))
    assert [record.message for record in caplog.records] == ['other']
