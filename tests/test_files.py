"""Files that are whole at any moment."""

import os
import re

import pytest
from conftest import ROOT

from runtime.files import atomic_file, write_atomically


@pytest.mark.parametrize('data', ['text\r\n', b'\x00bytes'])
def test_a_file_is_what_was_written(tmp_path, data):
    path = tmp_path / 'a'
    path.write_bytes(b'before')
    write_atomically(path, data)
    assert path.read_bytes() == (data if isinstance(data, bytes) else data.encode())
    assert os.listdir(tmp_path) == ['a']


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), KeyboardInterrupt(), ValueError()])
def test_what_was_there_stays_when_writing_fails(tmp_path, error):
    path = tmp_path / 'a'
    path.write_text('before')
    with pytest.raises(type(error)), atomic_file(path) as file:
        file.write('half')
        file.flush()
        assert path.read_text() == 'before'  # a reader in the middle
        raise error
    assert path.read_text() == 'before' and os.listdir(tmp_path) == ['a']


OTHERS = {  # no single file of ours: golden texts, shards whose writer takes a path, folders, buckets, checkpoints
    'configs/__main__.py': 1,
    'input_pipeline/pack.py': 1,
    'input_pipeline/prepare.py': 3,
    'training/checkpoints.py': 2,
    'training/workdir.py': 2,
    'weights/__init__.py': 1,
}


def test_nothing_else_writes_a_file_in_its_place():
    found = {}
    for path in ROOT.rglob('*.py'):
        parts = path.relative_to(ROOT).parts
        if parts[0] not in ('tests', 'benchmarks', 'scripts') and parts != ('runtime', 'files.py'):
            calls = re.findall(r'os\.replace\(|\.rename\(|\.write_text\(|\.write_bytes\(', path.read_text())
            found |= {'/'.join(parts): len(calls)} if calls else {}
    assert found == OTHERS
