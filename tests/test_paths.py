"""`~` in every path that a user can type."""

import shlex
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from configs import base, listing, series
from runtime import command_line, paths

ARGUMENTS = {  # as a shell leaves them: what the program reads, HOME being /home/me
    '--workdir=~/runs/a': '--workdir=/home/me/runs/a',
    '--workdir=~': '--workdir=/home/me',
    '~/cat.jpg': '/home/me/cat.jpg',
    '--labels=real=~/real.json': '--labels=real=/home/me/real.json',
    '--config=~/mine.py:folder=~/flowers,epochs=3': '--config=/home/me/mine.py:folder=/home/me/flowers,epochs=3',
    '--config.data_dir=~/data': '--config.data_dir=/home/me/data',
    '/tmp/a~b': '/tmp/a~b',
    '--out=runs/~/x': '--out=runs/~/x',
    '--licence=~ MIT': '--licence=~ MIT',
    '--out=~no_such_user/x': '--out=~no_such_user/x',
    'gs://bucket/~/run': 'gs://bucket/~/run',
}


@pytest.mark.parametrize('argument, expected', ARGUMENTS.items())
def test_a_tilde_is_expanded_where_a_path_begins(monkeypatch, argument, expected):
    monkeypatch.setenv('HOME', '/home/me')
    assert paths.expanded(argument) == expected


def parsed(monkeypatch, *arguments):
    """The values of the flags of a command line of train.py, parsed as it does."""
    argv = ['train.py', *arguments]
    values = flags.FlagValues()
    flags.DEFINE_string('workdir', None, '', flag_values=values)
    flags.DEFINE_multi_string('checkpoint', [], '', flag_values=values)
    held = config_flags.DEFINE_config_file('config', lock_config=True, flag_values=values)
    monkeypatch.setattr(flags, 'FLAGS', values)
    monkeypatch.setattr(command_line, 'CONFIG', held)
    monkeypatch.setattr(sys, 'argv', argv)
    command_line._parse(argv)
    return values


@pytest.mark.filterwarnings('ignore:the load_module:DeprecationWarning')
def test_flags_and_configs_have_their_paths_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'mine.py').write_text(
        'from configs import lenet5_digits\ndef get_config():\n    config = lenet5_digits.get_config()\n'
        "    config.init_from, config.dataset = '~/runs/a', 'folder'\n"
        "    config.normalize = 'mean_image'\n    return config\n"
    )
    command = '--config=~/mine.py --workdir=~/w --checkpoint=~/a --checkpoint ~/b --config.data_dir=~/data'
    values = parsed(monkeypatch, *shlex.split(command), '--config.statistics', '~/s.npz')
    config, name = command_line.load_config()
    assert (values.workdir, values.checkpoint) == (f'{tmp_path}/w', [f'{tmp_path}/a', f'{tmp_path}/b'])
    assert (config.data_dir, config.statistics) == (f'{tmp_path}/data', f'{tmp_path}/s.npz') and name == 'mine'
    assert config.init_from == f'{tmp_path}/runs/a'  # set in the file itself


def test_a_series_and_its_members(monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    first, second = base.get_config(), base.get_config()
    second.dataset, second.data_dir = 'folder', '~/other'
    config = series.create(first=first, second=second)
    config.data_dir = '~/data'
    seven = listing.load('alexnet_ensemble:seven')
    seven.fall_data_dir = '~/fall'
    for one in (config, seven):
        paths.expand_config(one)
    assert config.members.first.data_dir == '/home/me/data' and config.members.second.data_dir == '/home/me/other'
    assert seven.members.fall.data_dir == '/home/me/fall'


def test_no_other_place_expands():
    """Else the places would drift apart: one forgets, another expands twice."""
    root = Path(__file__).parents[1]
    files = [f for f in root.rglob('*.py') if f.name != 'paths.py' and 'tests' not in f.relative_to(root).parts]
    assert not [str(file) for file in files if 'expanduser' in file.read_text()]
