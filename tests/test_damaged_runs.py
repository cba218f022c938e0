"""What lies in a run's folder, damaged: its config, log, checkpoint's info, partial evaluation and landscape."""

import contextlib
import io
import json
import re
import shutil

import jax
import numpy as np
import pytest
from conftest import digits, epoch_row
from mutate import damaged, damaged_json, damaged_zip

import architectures
from configs import listing
from evaluation import results
from figures import degradation, landscape, report
from input_pipeline import datasets
from runtime import stored_config
from runtime.errors import UserError
from training import checkpoints, log, workdir
from training.run import build_model, check


@pytest.fixture
def line():
    """A context manager in which a UserError, one line with some names, ends the block; some of them must come."""
    refused = []

    @contextlib.contextmanager
    def line(*names):
        try:
            yield
        except UserError as error:
            refused.append(str(error))
            assert all(str(name) in refused[-1] for name in names) and '\n' not in refused[-1], refused[-1]

    yield line
    assert len(refused) > 10


def configs():
    for config in (digits(architecture_options={'activation': 'tanh'}), listing.load('bn_inception')):
        yield config, json.loads(config.to_json_best_effort())


@pytest.mark.parametrize('seed', range(2))
def test_a_damaged_config_is_a_line_or_a_config(tmp_path, seed, line):
    path = tmp_path / 'config.json'
    for config, values in configs():
        texts = [*damaged_json(values, seed, 60), *damaged(json.dumps(values, indent=2).encode(), seed, 60)]
        for text in texts:
            path.write_bytes(text)
            with line(path):
                read = stored_config.get_config(str(tmp_path))
                with line():  # names of the network, of an option, of a crop: what is wrong is named
                    check(read)
                    build_model(read)
            with line(tmp_path):
                workdir.changes(tmp_path, config)


@pytest.mark.parametrize(
    'change, says',
    [
        ({'architecture_options': None}, r'Expected `object`, got `null` - at `\$.architecture_options`'),
        ({'architecture_options': {'a.b': 1}}, r'Expected `str` matching regex'),
        ({'num_classes': -1}, 'num_classes must be from 1 to 1,000,000, not -1'),
        ({'image_size': 10**6}, 'image_size must be from 1 to 4,096, not 1000000'),
        ({'image_size': 2**70}, 'Integer value out of range|Expected `int` <='),
        ({'learning_rate': float('nan')}, 'learning_rate must be finite, not nan'),
        ({'learning_rates': [[1, None]]}, r'Expected `float`, got `null` - at `\$.learning_rates\[0\]\[1\]`'),
        ({'crop': {'kind': 3}}, r'Expected `str`, got `int` - at `\$.crop.kind`'),
        ({'crop': {'knd': 'none'}}, 'unknown field `knd`'),
        ({'color': 3}, 'unknown field `color`'),
    ],
)
def test_a_value_that_no_config_has_is_named(tmp_path, change, says):
    values = json.loads(digits().to_json_best_effort()) | change
    (tmp_path / 'config.json').write_text(json.dumps(values))
    for read, advice in (
        (lambda: stored_config.get_config(str(tmp_path)), 'pass --config'),
        (lambda: workdir.changes(tmp_path, digits()), 'restore it'),
    ):
        with pytest.raises(UserError, match=f'^{tmp_path}/config.json .*({says}).*{advice}'):
            read()


@pytest.mark.parametrize(
    'network, option, value',
    [
        ('lenet5', 'activation', None), ('lenet5_1998', 'c3', 3), ('alexnet', 'hidden_bias', 'x'),
        ('vgg_a', 'window', -1), ('vgg_a', 'window', True), ('resnet50', 'gate', 'x'), ('resnet50', 'depths', (3, '4')),
    ],
)  # fmt: skip
def test_an_option_of_another_type_is_named(network, option, value):
    with pytest.raises(UserError, match=re.escape(f'{network}: the option {option} cannot be {value!r} (Expected ')):
        architectures.create(network, **{option: value})


def test_every_recipe_can_be_read_back(tmp_path):
    for name in listing.names():
        config = listing.load(name)
        for number, member in config.get('members', {'': config}).items():
            folder = tmp_path / f'{name}_{number}'
            folder.mkdir()
            (folder / 'config.json').write_text(member.to_json_best_effort())
            assert stored_config.get_config(str(folder)).to_json_best_effort() == member.to_json_best_effort()


# The log


def rows():
    time = {'total': 5.0, 'step': 1.0}
    yield {'kind': 'train', 'step': 5, 'loss': float('nan'), 'learning_rate': 0.1, 'time': time}
    yield {'kind': 'epoch', 'step': 10, **epoch_row(1.0, 50.0, 60.0), 'time': time}
    yield {'kind': 'finished', 'step': 10, 'time': time}


@pytest.mark.parametrize('seed', range(2))
def test_a_damaged_log_is_a_line_with_its_number(tmp_path, seed, line):
    path, whole = tmp_path / log.NAME, [json.dumps(row).encode() for row in rows()]
    workdir.write_config(tmp_path, digits())
    texts = [text for number in range(3) for text in damaged_json(list(rows())[number], seed, 15)]
    logs = [b'\n'.join([whole[0], text, whole[1], b'']) for text in texts]
    for text in (*logs, *damaged(b'\n'.join([*whole, b'']), seed, 60)):
        path.write_bytes(text)
        with line(path, 'line '):
            read = log.read(tmp_path)
            workdir.is_finished(tmp_path)
            log.RunLog(tmp_path / 'unwritten', read, 10, {'total': 1.0}, writes=False).best_epoch()
            report.curves(read[:0] or [row for row in read if row['kind'] != 'epoch'], digits(), None)
            if any(row['kind'] == 'epoch' for row in read):
                degradation.curves_of(tmp_path)


@pytest.mark.parametrize('line', [b'5', b'null', b'{}', b'\xff', b'', b'[1]', b'{"kind": "train", "step": 1}', b'{"ki'])
def test_a_line_that_is_no_row_is_named_and_a_cut_last_one_is_left_out(tmp_path, line):
    whole = [json.dumps(row).encode() + b'\n' for row in rows()]
    (tmp_path / log.NAME).write_bytes(whole[0] + line + b'\n' + whole[1])
    with pytest.raises(UserError, match=rf'^line 2 of .*{log.NAME} is not a row of a log .*; remove the line$'):
        log.read(tmp_path)
    (tmp_path / log.NAME).write_bytes(whole[0] + whole[1] + line)
    assert [row['kind'] for row in log.read(tmp_path)] == ['train', 'epoch']


# Checkpoints of an older version, without digests


def test_damaged_info_and_metrics_are_a_line(tmp_path, line):
    info = checkpoints.describe(digits(), ('a', 'b')) | {
        'examples_seen': 7, 'average_start': 3, 'training_images': 9, 'clock': {'step': 1.0}, 'epoch_is_closed': True,
        'data': {'training': {'labels': 'x'}},
    }  # fmt: skip
    folder, source = tmp_path / checkpoints.FOLDER, datasets.open_splits(digits())[0]
    with checkpoints.Checkpoints(folder) as kept:
        kept.save_model({'params': {'w': jax.numpy.arange(3.0)}}, info)
    shutil.rmtree(folder / '0/digests')
    path = folder / '0/info/metadata'
    (folder / '0/metrics').mkdir()
    metrics = folder / '0/metrics/metrics'
    metrics.write_text('{"top1_error": 3.0}')
    path.write_text(json.dumps(info))
    texts = [*damaged_json(info, 0, 40), *damaged(json.dumps(info).encode(), 0, 20)]
    for text in texts:
        path.write_bytes(text)
        with line(folder), checkpoints.Checkpoints(folder, read_only=True) as kept:
            kept.choose('best')
            assert {'architecture', 'architecture_options', 'num_classes'} <= kept.info(0).keys()
            with line(tmp_path):
                workdir.resume_point(tmp_path, source)
    path.write_text(json.dumps(info))
    for text in (b'5', b'null', b'{"top1_error": NaN}', b'{"top1_error": true}', b'{"top1_error": "3"}', b'[' * 9999):
        metrics.write_bytes(text)
        with checkpoints.Checkpoints(folder, read_only=True) as kept:
            assert kept.choose('best') == 0


# What an interrupted command leaves


def test_a_damaged_partial_evaluation_is_a_line_or_its_rows(tmp_path, line):
    path, identity = tmp_path / 'e.partial', {'checkpoint': 'a', 'data': {'labels': 'x'}, 'number': 3}
    row = results.row(0, '0', 1, np.log([0.1, 0.2, 0.7]))
    for first in damaged_json(identity, 0, 30):
        path.write_bytes(first + b'\n' + json.dumps(list(row)).encode() + b'\n')
        with line(path), results.Partial(path, identity, True, range(4)) as partial:
            assert partial.rows == [row]
    lines = [json.dumps(line).encode() + b'\n' for line in (identity, list(row), list(row._replace(index=2)))]
    texts = [lines[0] + lines[2] + text + b'\n' for text in damaged_json(list(row), 0, 40)]
    for text in (*texts, *damaged(b''.join(lines), 0, 60)):
        path.write_bytes(text)
        with line(path), results.Partial(path, identity, True, range(4)) as partial:
            assert results.summary([*partial.rows, row._replace(index=3)])['num_examples']


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_a_damaged_landscape_is_a_line_or_its_losses(tmp_path, line):
    path, file = tmp_path / 'l.png.npz', io.BytesIO()
    identity = {'points': 3, 'span': 1.0, 'seed': 0, 'networks': [{'weights': 'x'}, {'weights': 'y'}]}
    losses = {f'losses{number}': np.full((3, 3), number, np.float32) for number in range(2)}
    np.savez(file, what=np.array(json.dumps(identity)), **losses)
    files = [*damaged(file.getvalue(), 0, 60), *damaged_zip(file.getvalue(), 0, 60)]
    for text in damaged_json(identity, 0, 40):
        changed = io.BytesIO()
        np.savez(changed, what=np.array(text.decode(errors='replace')), **losses)
        files.append(changed.getvalue())
    for data in files:
        path.write_bytes(data)
        with line(path, 'remove'):
            read, surfaces = landscape.read(path)
            assert len(surfaces) == len(read['networks'])
            assert all(surface.shape == (read['points'],) * 2 for surface in surfaces)
