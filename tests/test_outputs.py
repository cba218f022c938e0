"""Output that fails: a closed pipe, a full disk, a closed stream, an encoding without the characters of a name."""

import errno
import os
import signal
import subprocess
import sys

import jax
import pytest
from conftest import PYTHON, ROOT, one_device_environment
from PIL import Image

from input_pipeline import loader
from runtime import interrupts, system
from runtime.errors import UserError
from training import checkpoints, log

LEFT_OUT = '-c: the output cannot be written ({}) and is left out from here on\n'


def run(code, purpose='result', stdout=subprocess.PIPE, prefix=(), **options):
    """The exit code, output and errors of a program that listens first."""
    program = f'from runtime import interrupts; interrupts.listen({purpose!r})\nimport os, signal, sys\n{code}'
    command = [*prefix, *PYTHON, '-c', program]
    done = subprocess.run(command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, **options)
    return done.returncode, done.stdout, done.stderr


PRINTS = """
for number in range(3):
    print(number, flush=True)
print('went on', file=sys.stderr)
sys.exit(2 if interrupts.output_failed() else 0)
"""


@pytest.mark.parametrize(
    'purpose, code, errors',
    [('result', 0, 'went on\n'), ('progress', 0, LEFT_OUT.format('Broken pipe') + 'went on\n'), ('list', 0, '')],
)
def test_a_pipe_without_a_reader(purpose, code, errors):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run(PRINTS, purpose, stdout=writer) == (code, None, errors)
    finally:
        os.close(writer)


@pytest.mark.parametrize('purpose, code', [('result', 2), ('progress', 0), ('list', 2)])
def test_a_full_disk_under_the_output(purpose, code):
    with open('/dev/full', 'w') as full:
        errors = LEFT_OUT.format('No space left on device') + 'went on\n'
        assert run(PRINTS, purpose, stdout=full) == (code, None, errors)


def test_errors_that_cannot_be_printed_end_nothing():
    with open('/dev/full', 'w') as full:
        done = subprocess.run(
            [*PYTHON, '-c', 'from runtime import interrupts; interrupts.listen()\nimport sys\n' + PRINTS],
            cwd=ROOT, stdout=full, stderr=full, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2


def test_a_file_does_not_get_the_number_of_a_closed_stream(tmp_path):
    program = f'{PRINTS[: PRINTS.index("sys.exit")]}\nopen({str(tmp_path / "file")!r}, "w").write("text"); print("x")'
    program = f'import os, sys; from runtime import interrupts; interrupts.listen()\n{program}'
    command = ['sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh', *PYTHON, '-c', program]
    assert subprocess.run(command, cwd=ROOT, timeout=60).returncode == 0
    assert (tmp_path / 'file').read_text() == 'text'


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8'])
def test_what_the_output_cannot_encode_is_escaped(encoding):
    env = os.environ | {'PYTHONIOENCODING': encoding, 'LC_ALL': 'C'}
    code, out, errors = run('n = os.fsdecode(b"a\\xff\\xe2\\x9c\\x93"); print(n); print(n, file=sys.stderr)', env=env)
    check = '✓' if encoding == 'utf-8' else '\\u2713'
    assert (code, out, errors) == (0, f'a\\udcff{check}\n', f'a\\udcff{check}\n')


def test_a_terminal_that_goes_away_ends_the_process_unless_it_is_ignored():
    raises = "print('before', flush=True); signal.raise_signal(signal.SIGHUP); print('after')"
    assert run(raises) == (129, 'before\n', '-c: interrupted\n')
    assert run(raises, prefix=['nohup']) == (0, 'before\nafter\n', '')
    with interrupts.Caught() as signals:
        signal.raise_signal(signal.SIGHUP)
    assert signals.number == signal.SIGHUP


def test_the_second_signal_of_timeout_does_not_interrupt_the_cleaning_up():
    cleaned = []
    with pytest.raises(KeyboardInterrupt) as error, interrupts.Raised():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # `timeout` signals the process and then its group
            cleaned.append(True)
    assert error.value.args == (signal.SIGTERM,) and cleaned


# Full disks


def test_events_that_cannot_be_written_are_left_out_with_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(log, 'RecordWriter', lambda path, writer=log.RecordWriter: writer('/dev/full'))
    monkeypatch.setattr(log, '_FLUSH_SECONDS', 0)
    run_log = log.RunLog(tmp_path)
    for step in range(100):  # more than any queue holds
        run_log.write('train', step, {'total': 1.0}, loss=0.5)
    run_log.close()
    assert len(log.read(tmp_path)) == 100
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and errors[0].startswith("warning: TensorBoard's events cannot be written (No space left")


def test_a_log_that_cannot_be_written_stops_the_run_with_its_name(tmp_path):
    (tmp_path / log.NAME).symlink_to('/dev/full')
    run_log = log.RunLog(tmp_path)
    with pytest.raises(UserError, match=r'metrics.jsonl cannot be written \(No space left on device\). Make room'):
        run_log.write('train', 1, {'total': 1.0})
    run_log.close()


@pytest.fixture
def disk(tmp_path):
    """Makes a small disk: its folder, given mount's options; skips the test where that is not allowed."""
    mounted = []

    def make(options):
        folder = tmp_path / 'disk'
        folder.mkdir()
        done = subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'none', folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f'only root may mount a tmpfs here: {done.stderr.strip()}')
        mounted.append(folder)
        return folder

    if sys.platform != 'linux':
        pytest.skip('tmpfs is of Linux')
    yield make
    for folder in mounted:
        subprocess.run(['umount', '-l', folder], check=True)


CONFIG = (
    '--config', 'configs/lenet5_digits.py', '--config.num_epochs=2.0', '--config.distortion.versions=1',
    '--config.learning_rates=((2,0.02),)',
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize('options', ['size=8k', 'size=40k', 'size=900k', 'nr_inodes=4', 'nr_inodes=12'])
def test_a_full_disk_ends_a_run_with_one_line(script, disk, options):
    folder = disk(options)
    done = script('train.py', *CONFIG, '--workdir', folder / 'run')
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: TensorBoard's events")]
    assert done.returncode == 2 and len(lines) == 1
    assert lines[0].startswith('train.py: error: ')
    assert 'No space left on device' in lines[0] and str(folder) in lines[0]


@pytest.mark.slow
def test_a_run_without_a_reader_trains_to_its_end(tmp_path):
    command = [*PYTHON, 'train.py', *CONFIG, '--workdir', str(tmp_path / 'run')]
    process = subprocess.Popen(
        command, cwd=ROOT, env=one_device_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.stdout.close()  # as `head -1` does
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) == 0
    assert errors == 'train.py: the output cannot be written (Broken pipe) and is left out from here on\n'
    assert log.read(tmp_path / 'run')[-1]['kind'] == 'finished'


def test_a_checkpoint_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / checkpoints.FOLDER).touch()
    with pytest.raises(UserError, match=r'checkpoints cannot be made \(File exists\)'):
        checkpoints.Checkpoints(tmp_path / checkpoints.FOLDER)
    with pytest.raises(UserError, match='checkpoints need a folder whose name is UTF-8'):
        checkpoints.Checkpoints(tmp_path / os.fsdecode(b'r\xff'))


def test_shared_memory_without_room_is_named_with_the_key_to_set(monkeypatch):
    monkeypatch.setattr(loader, 'SHARED_MEMORY', '/dev')
    loader.check_shared_memory(0)
    with pytest.raises(UserError, match=r'^/dev, through which .* pass --config.workers=0'):
        loader.check_shared_memory(1 << 60)

    class Batches:
        def __init__(self, error):
            self.error = error

        def __next__(self):
            raise self.error

        def close(self):
            pass

    for error in (
        RuntimeError(f'Worker process was terminated unexpectedly with exit code {-signal.SIGBUS}'),
        OSError(errno.ENOSPC, 'No space left on device'),
    ):
        with pytest.raises(UserError, match=r'too small or full.* pass --config.workers=0'):
            next(loader._iterate(Batches(error), 2))


@pytest.mark.slow
@pytest.mark.parametrize('size', ['16k', '200k', '600k'])
def test_a_small_shared_memory_ends_a_run_with_one_line(tmp_path, size):
    """In a mount namespace with its own /dev/shm: too small for the locks of the workers, or for their batches."""
    for split in ('train', 'test'):
        (tmp_path / split / 'a').mkdir(parents=True)
        for number in range(64):
            Image.new('L', (28, 28), number).save(tmp_path / split / 'a' / f'{number}.png')
    mount = f'mount -t tmpfs -o size={size} none {loader.SHARED_MEMORY}'
    unshare = ['unshare', '--mount', 'sh', '-c', f'{mount} && exec "$@"', 'sh']
    if sys.platform != 'linux' or subprocess.run([*unshare, 'true'], capture_output=True).returncode:
        pytest.skip('only root may mount a tmpfs over /dev/shm')
    data = ('--config.dataset=folder', f'--config.data_dir={tmp_path}', '--config.num_classes=1', '--config.workers=2')
    command = [*unshare, *PYTHON, 'train.py', *CONFIG, *data, '--workdir', str(tmp_path / 'run')]
    done = subprocess.run(command, cwd=ROOT, env=one_device_environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert [line.partition(', through')[0] for line in done.stderr.splitlines()] == ['train.py: error: /dev/shm']


# Platforms and help


@pytest.mark.parametrize(
    'error, reason',
    [
        (
            RuntimeError("Unable to initialize backend 'x': no such (set JAX_PLATFORMS='' to ...)"),
            'backend .x.: no such',
        ),
        (AssertionError(), 'there is no such device'),
    ],
)
def test_a_platform_that_cannot_start_is_a_user_error(monkeypatch, error, reason):
    def fail():
        raise error

    monkeypatch.setattr(jax, 'devices', fail)
    system.check_platforms()  # the CPU, which is not asked
    monkeypatch.setenv('JAX_PLATFORMS', 'x')
    with pytest.raises(UserError, match=f'^JAX_PLATFORMS=x: .*{reason}. Set JAX_PLATFORMS=cpu'):
        system.check_platforms()


@pytest.mark.parametrize(
    'command',
    [
        *(f'{name}.py' for name in ('train', 'evaluate', 'predict', 'convert', 'visualize', 'data', 'benchmark')),
        *('-m architectures', '-m configs', '-m evaluation.published', 'scripts/step_time.py'),
    ],
)
def test_help_is_not_an_error(script, command):
    done = script(*command.split(), '--help')
    assert done.returncode == 0 and done.stdout and not done.stderr
