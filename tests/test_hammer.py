"""scripts/hammer.py: it sees each kind of failure, and the project survives a short run of it."""

import subprocess

import pytest
from conftest import PYTHON, ROOT

BAD = """
import itertools, sys, time
sys.path[:0] = ['scripts', 'tests']
import foreign_files, hammer

def refused(folder):
    raise foreign_files.UserError(f'{folder} is bad')

def crash(folder):
    import os, signal
    os.kill(os.getpid(), signal.SIGSEGV)

after_the_whole = {
    'refused': refused,
    'traceback': lambda folder: 1 // 0,
    'crash': crash,
    'hang': lambda folder: time.sleep(60),
    'memory': lambda folder: len(b'x' * (300 << 20)),
    'wrong': lambda folder: 'another value',
    'right': lambda folder: 'the value',
}

def reader(bad):
    return lambda folder: 'the value' if folder.name == 'whole' else bad(folder)

hammer.FORMATS.clear()
hammer.FORMATS.update({
    name: foreign_files.Format(lambda: {'file': b'content'}, reader(bad)) for name, bad in after_the_whole.items()
})
hammer._BATCH, hammer._SECONDS = 1, (4, 4)
tally = hammer.hammer(0.1, 0, sys.argv[1], list(hammer.FORMATS))
for name, counts in tally.counts.items():
    counts.pop('tried', None)
    assert len(counts) == 1 and counts, (name, counts)
    print(name, *counts)
print(tally.failed)
"""


@pytest.mark.slow
def test_every_kind_of_failure_is_seen_and_kept(tmp_path):
    done = subprocess.run([*PYTHON, '-c', BAD, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    seen = dict(line.split() for line in done.stdout.splitlines() if line.count(' ') == 1)
    assert seen.pop('crash') == 'traceback' and len(seen) == 6 and all(name == how for name, how in seen.items())
    assert done.stdout.endswith('True\n')
    how = next(tmp_path.glob('wrong*/how.txt')).read_text()
    assert how.startswith("python scripts/hammer.py --replay 'wrong' ") and 'another value' in how
    assert next(tmp_path.glob('wrong*/file')).is_file()


@pytest.mark.slow
def test_a_short_run(tmp_path):
    command = [*PYTHON, 'scripts/hammer.py', '--minutes', '0.1', '--kills', '3', '--keep', tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
