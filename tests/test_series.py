"""Several runs by one command."""

import json

import numpy as np
import pytest
from conftest import digits
from PIL import Image

from configs import series
from figures import falling
from runtime.errors import UserError
from training import loop
from training import series as training_series
from training.log import read


def short(**changes):
    return digits(**{'architecture': 'linear', 'num_epochs': 1.0, 'learning_rates': ((1, 0.02),), **changes})


def pair():
    return series.create(first=short(), second=short(seed=1, init_from='first'))


def test_members_train_in_turn_and_start_from_each_other(tmp_path, capfd, linear):
    rows = training_series.train(pair(), tmp_path)
    assert [row['name'] for row in rows] == ['first', 'second']
    (copied,) = (row for row in read(tmp_path / 'second') if row['kind'] == 'init_from')
    assert copied['from'] == str(tmp_path / 'first') and copied['left'] == []
    assert rows[1]['test_top1_error'] < rows[0]['test_top1_error']  # it continues where the first ended
    assert json.loads((tmp_path / 'table.json').read_text()) == rows
    lines = (tmp_path / 'table.md').read_text().splitlines()
    assert len(lines) == 4 and lines[2].startswith('| 1998 | first | 45 | 1 |')
    assert '1 of 2: first' in capfd.readouterr().out

    # The same command again: finished members are skipped, and the table is the same.
    before = (tmp_path / 'first' / 'metrics.jsonl').read_text()
    assert training_series.train(pair(), tmp_path) == rows
    assert capfd.readouterr().out.count('already finished') == 2
    assert (tmp_path / 'first' / 'metrics.jsonl').read_text() == before

    # A member of another recipe is not taken for finished.
    other = series.create(first=short(seed=5), second=short(seed=1))
    with pytest.raises(UserError, match='first contains another run: seed is 0 there and 5 here'):
        training_series.train(other, tmp_path)


@pytest.mark.slow
def test_an_interrupted_member_continues(tmp_path, monkeypatch, linear):
    whole, train = loop.train, loop.train

    def stops(config, workdir, started=None):
        if workdir.name == 'second':
            raise loop.Interrupted(15)
        return train(config, workdir, started)

    monkeypatch.setattr(loop, 'train', stops)
    with pytest.raises(loop.Interrupted):
        training_series.train(pair(), tmp_path)
    assert [row['name'] for row in json.loads((tmp_path / 'table.json').read_text())] == ['first']
    monkeypatch.setattr(loop, 'train', whole)
    assert len(training_series.train(pair(), tmp_path)) == 2


def test_a_member_starts_only_from_one_before_it(tmp_path, linear):
    config = series.create(first=short(init_from='second'), second=short())
    with pytest.raises(UserError, match='first starts from second, which must come before it'):
        training_series.train(config, tmp_path)
    config = pair()
    config.order = ('first', 'secnd')
    with pytest.raises(UserError, match='no member .secnd., did you mean second'):
        training_series.train(config, tmp_path)


@pytest.mark.slow
def test_the_command(script, tmp_path):
    config = tmp_path / 'pair.py'
    config.write_text(
        'from configs import lenet5_digits, series\n\n\n'
        'def get_config():\n'
        '    members = {name: lenet5_digits.get_config() for name in ("one", "two")}\n'
        '    for member in members.values():\n'
        '        member.update({"num_epochs": 0.2, "learning_rates": ((1, 0.02),)})\n'
        '    return series.create(**members)\n'
    )
    done = script('train.py', '--config', config, '--workdir', tmp_path / 'run')
    assert done.returncode == 0, done.stderr
    assert '| 1998 | two | 9 | 0.2 |' in done.stdout
    with Image.open(tmp_path / 'run' / 'errors.png') as figure:
        assert figure.width > 600 and len(np.unique(np.asarray(figure.convert('L')))) > 10


def test_the_falling_curve_shows_every_member(tmp_path):
    rows = [
        {'name': f'network{number}', 'year': 2010 + number, 'train_error': 50.0 - 5 * number, 'test_top1_error': 60.0}
        for number in range(13)
    ]
    falling.draw(rows[:1], tmp_path / 'one.png')
    falling.draw(rows, tmp_path / 'all.png')
    with Image.open(tmp_path / 'one.png') as one, Image.open(tmp_path / 'all.png') as all_of_them:
        assert all_of_them.width > 1.5 * one.width
