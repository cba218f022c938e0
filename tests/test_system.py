"""Other operating systems: everything works without what they lack."""

import ast
import math
import os
import sys
import threading
import types

import numpy as np
import pytest
from conftest import ROOT, digits

from input_pipeline import datasets, loader, pack
from runtime import distributed, system
from runtime.errors import UserError
from training import loop, memory
from training.workdir import claimed

MODULES = {'fcntl', 'resource', 'msvcrt', 'termios', 'pwd', 'grp'}  # not everywhere
NAMES = {'sched_getaffinity', 'pread', 'preadv', 'sysconf', 'O_DIRECTORY', 'SIGKILL', 'getuid', 'geteuid'}
GUARDED = {'fork', 'getloadavg', 'pthread_sigmask'}  # where they are used, a line asks whether they are there
UNIX_ONLY = ('benchmarks', 'scripts', 'tests')  # measurements on one machine, launchers of clusters


def uses(file):
    """The imports and names in a file that do not exist on every system."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield node.module
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ('os', 'signal'):
            yield from {node.attr} & (NAMES | GUARDED)


def test_one_file_names_what_is_not_everywhere():
    for file in ROOT.rglob('*.py'):
        parts = file.relative_to(ROOT).parts
        if parts[0] in UNIX_ONLY or parts == ('runtime', 'system.py') or parts[0].startswith('.'):
            continue
        for name in set(uses(file)) - ({'SIGKILL'} if file.name == 'distributed.py' else set()):  # after a fork
            assert name in GUARDED and f"'{name}')" in file.read_text(), f'{file}: {name}'


def test_cores(monkeypatch):
    if hasattr(os, 'sched_getaffinity'):
        assert system.cores() == len(os.sched_getaffinity(0))
        monkeypatch.delattr(os, 'sched_getaffinity')
    monkeypatch.setattr(os, 'cpu_count', lambda: 7)
    assert system.cores() == 7 and loader._threads() == 14
    monkeypatch.setattr(os, 'cpu_count', lambda: None)
    assert system.cores() == 1


@pytest.mark.parametrize('lacks', [(), ('preadv',), ('preadv', 'pread')])
def test_reading_at_a_place(tmp_path, monkeypatch, lacks):
    (tmp_path / 'file').write_bytes(bytes(range(100)))
    for name in lacks:
        monkeypatch.delattr(os, name)
    file = os.open(tmp_path / 'file', system.READ)
    first, second = np.zeros(3, np.uint8), bytearray(4)
    assert system.read_at(file, [first, second], 50) == 7
    assert first.tolist() == [50, 51, 52] and list(second) == [53, 54, 55, 56]
    assert system.read_at(file, [bytearray(8)], 95) == 5
    assert list(system.pread(file, 3, 10)) == [10, 11, 12] and system.pread(file, 3, 100) == b''
    os.close(file)


def windows(monkeypatch):
    """Remove `fcntl` and `resource`; `msvcrt.locking` is replaced by a lock on the identity of the file."""
    held = {}

    def locking(handle, mode, count):
        owner = held.setdefault(os.fstat(handle).st_ino, handle)
        if owner != handle:
            try:
                os.fstat(owner)
            except OSError:  # it was closed
                held[os.fstat(handle).st_ino] = handle
            else:
                raise PermissionError(13, 'Permission denied')

    monkeypatch.setitem(sys.modules, 'msvcrt', types.SimpleNamespace(LK_NBLCK=2, locking=locking))
    monkeypatch.setattr(system, 'fcntl', None)
    monkeypatch.setattr(system, 'resource', None)


@pytest.mark.parametrize('lacks', [lambda patch: None, windows])
def test_a_workdir_and_a_store_are_held_by_one(tmp_path, monkeypatch, lacks):
    lacks(monkeypatch)
    config = digits()

    def claim():
        with claimed(tmp_path / 'run', config):
            pass

    with claimed(tmp_path / 'run', config), pytest.raises(UserError, match='another process is training'):
        claim()
    claim()

    def hold():
        with pack._claimed(tmp_path / 'store'):
            pass

    with pack._claimed(tmp_path / 'store'), pytest.raises(UserError, match='another process is packing'):
        hold()
    hold()


def test_memory_that_nothing_tells(monkeypatch):
    windows(monkeypatch)
    monkeypatch.setattr(system, 'Path', lambda *_: types.SimpleNamespace(exists=lambda: False))
    monkeypatch.delattr(os, 'sysconf')
    assert memory.available() == math.inf and memory.peak() == (math.inf, 'process')
    assert memory.text(math.inf) == 'an unknown size'
    system.allow_open_files(10**6)


def test_no_fork_and_no_signal_masks(monkeypatch):
    import signal

    monkeypatch.delattr(os, 'fork')
    assert distributed.fork_worker('train.py') is None
    monkeypatch.delattr(signal, 'pthread_sigmask')
    assert loader._with_signals_blocked(max, 3, 4) == 4


def test_training_in_a_thread_of_a_program(tmp_path, monkeypatch):
    """Python gives signals to the main thread alone; a notebook's server, say, trains in another."""
    config, rows = digits(stop_at_step=1, log_every_steps=1), []
    images = datasets.open_source('digits', 'train')
    assert len(images) == 1_437
    thread = threading.Thread(target=lambda: rows.append(loop.train(config, tmp_path / 'run')))
    thread.start()
    thread.join()
    assert rows == [None] and (tmp_path / 'run' / 'checkpoints' / '1').is_dir()
