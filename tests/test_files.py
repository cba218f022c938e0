"""Files that are complete at any moment."""

import os
import platform
import re
import subprocess
import sys
import threading

import pytest
from conftest import ROOT

from runtime import files
from runtime.errors import UserError
from runtime.files import append, atomic_file, write_atomically


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


def test_the_target_of_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / 'far').mkdir()
    target, link = tmp_path / 'far' / 'target', tmp_path / 'link'
    link.symlink_to(target)
    for text in ('created', 'replaced'):  # the first link leads nowhere
        write_atomically(link, text)
        assert link.is_symlink() and target.read_text() == text
    assert sorted(os.listdir(tmp_path)) == ['far', 'link'] and os.listdir(target.parent) == ['target']


def test_a_fifo_and_a_device_are_written_to(tmp_path):
    fifo, received = tmp_path / 'fifo', []
    os.mkfifo(fifo)
    for write in (write_atomically, append):
        reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
        reader.start()
        write(fifo, 'text')
        reader.join()
    assert received == [b'text', b'text'] and os.listdir(tmp_path) == ['fifo']
    link = tmp_path / 'link'
    link.symlink_to(os.devnull)
    write_atomically(link, b'nowhere')
    assert link.is_symlink() and not os.path.isfile(os.devnull)
    with pytest.raises(OSError, match='No space'):
        write_atomically('/dev/full', 'text')


@pytest.mark.parametrize('name', ['-', '/dev/stdout', '/dev/fd/1', 'out'])
def test_standard_output_is_written_in_order(tmp_path, name):
    program = (
        'import sys; sys.path.insert(0, sys.argv[1]); from runtime.files import write_atomically, append\n'
        'print(1); write_atomically(sys.argv[2], b"2\\n"); write_atomically(sys.argv[2], "3\\n")\n'
        'append(sys.argv[2], "4\\n"); print(5)'
    )
    command = [sys.executable, '-c', program, str(ROOT), name]
    with open(tmp_path / 'out', 'w') as file:  # redirected to a regular file, which must not be replaced
        subprocess.run(command, cwd=tmp_path, stdout=file, check=True, timeout=60)
    assert (tmp_path / 'out').read_text() == '1\n2\n3\n4\n5\n' and os.listdir(tmp_path) == ['out']
    if name != 'out':
        piped = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, check=True, timeout=60)
        assert piped.stdout == b'1\n2\n3\n4\n5\n' and os.listdir(tmp_path) == ['out']


def test_names_that_are_long_or_not_utf8(tmp_path):
    for name in ('a' * 255, os.fsdecode(b'\xff' * 255), 'é' * 127):
        write_atomically(tmp_path / name, f'{name[:1]}\n')
        assert os.listdir(tmp_path) == [name]
        (tmp_path / name).unlink()
    write_atomically(tmp_path / 'a', os.fsdecode(b'caf\xe9'))
    assert (tmp_path / 'a').read_bytes() == b'caf\\udce9'


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / 'link').symlink_to(tmp_path / 'no' / 'file')
    for path in (tmp_path, tmp_path / 'no' / 'file', tmp_path / 'link'):
        with pytest.raises(UserError, match=re.escape(str(path))):
            files.check(path)
    for path in ('-', '/dev/null', '/dev/stdout', tmp_path / 'new'):
        files.check(path)


OTHERS = {  # golden files, shards whose writer takes a path, folders, buckets, and a file that the next run continues
    'configs/__main__.py': 1,
    'input_pipeline/pack.py': 1,
    'input_pipeline/prepare.py': 3,
    'training/checkpoints.py': 2,
    'training/workdir.py': 2,
    'weights/fetch.py': 1,
}


def test_nothing_else_writes_a_file_in_its_place():
    found = {}
    for path in ROOT.rglob('*.py'):
        parts = path.relative_to(ROOT).parts
        if parts[0] not in ('tests', 'benchmarks', 'scripts') and parts != ('runtime', 'files.py'):
            calls = re.findall(r'os\.replace\(|\.rename\(|\.write_text\(|\.write_bytes\(', path.read_text())
            found |= {'/'.join(parts): len(calls)} if calls else {}
    assert found == OTHERS


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path):
    ended = subprocess.Popen([sys.executable, '-c', ''])
    ended.wait()
    host = platform.node()
    left = [f'a.{host}-{ended.pid}.partial', f'b.{host}-{ended.pid}.partial']
    others = [f'a.{host}-{os.getppid()}.partial', f'a.other-{ended.pid}.partial', f'aa.{host}-{ended.pid}.partial']
    for name in (left[0], *others):
        (tmp_path / name).touch()
    (tmp_path / left[1]).mkdir()
    (tmp_path / left[1] / 'file').touch()
    write_atomically(tmp_path / 'a', 'text')
    with files.atomic_folder(tmp_path / 'b') as folder:
        assert sorted(tmp_path.iterdir()) == sorted([*(tmp_path / name for name in ('a', *others)), folder])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(['a', 'b', *others])
    with pytest.raises(ZeroDivisionError), files.atomic_folder(tmp_path / 'c'):
        raise ZeroDivisionError
    assert not list(tmp_path.glob('c*'))
