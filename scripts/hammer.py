"""Damage files of every format that the project reads, and kill its commands, for as long as the time allows.

    python scripts/hammer.py --minutes 10
    python scripts/hammer.py --minutes 0 --kills 100
    python scripts/hammer.py --replay 'weights.npz' 1234

The formats, how each is damaged, and which values are right are in tests/foreign_files.py. Each file is read in a child
process, with a clock and a limit of memory, and ends as one of these:

    refused     a `UserError`: one line that names the file
    right       read: the value of the whole file, or one that tests/foreign_files.py calls right
    traceback   any other exception, text of one on standard error, or a crash
    hang        no answer within 20 s, 60 s with Orbax
    memory      more than 3 times what may be unpacked from a file of its size (`foreign.most_unpacked`)
    wrong       read, but not right; or a message that is no such line

With `--kills`, train.py, data.py pack, evaluate.py --resume and convert.py are killed at random moments, by SIGKILL and
SIGTERM in turn, and started again, up to three times, until one ends. Its result must be that of a command that was
never killed, bit for bit, and its folder must have no other files.

What fails is kept, in `--keep`, with the command that repeats it. Exit code 1 if anything failed. Linux only.
"""

import collections
import contextlib
import fnmatch
import functools
import gc
import hashlib
import itertools
import json
import os
import pickle
import random
import re
import resource
import runpy
import selectors
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tests'))
os.environ['JAX_PLATFORMS'] = os.environ.get('JAX_PLATFORMS', 'cpu')

import foreign_files
import numpy as np
from foreign_files import FORMATS, ROOT

from runtime import foreign, system
from runtime.errors import Parser

FAILURES = 'traceback', 'hang', 'memory', 'wrong'
OUTCOMES = 'refused', 'right', *FAILURES
_BATCH = 40  # files of a child
_SECONDS = 20, 60  # for a file, and for one that Orbax reads
_ADDRESS_SPACE = 8 << 30  # that a child may take beyond what it has
_ORBAX = 'checkpoint (Orbax)'


# Files


class Child:
    """A fork that reads damaged files of one format; `pipe` gives a line of JSON for each."""

    def __init__(self, name, files, seeds, folder):
        """Start it.

        Args:
          name: of the format.
          files: its whole files.
          seeds: of the damaged ones.
          folder: for the files and the standard error of the children.
        """
        self.name, self.files, self.seeds, self.folder = name, files, list(seeds), folder
        reading, writing = os.pipe()
        self.pid = _fork()
        if not self.pid:
            os.close(reading)
            _in_child(lambda: self._serve(os.fdopen(writing, 'w')), Path(folder, f'{os.getpid()}.err'))
        os.close(writing)
        self.pipe, self.rest, self.seconds = reading, b'', _SECONDS[name == _ORBAX]
        self.deadline = time.monotonic() + 2 * self.seconds  # with the whole files before

    def _serve(self, answers):
        form, folder = FORMATS[self.name], Path(self.folder, str(os.getpid()))
        foreign_files.place(self.files, folder / 'whole')
        how, whole = foreign_files.read(form, folder / 'whole')
        assert how == 'read', whole
        used = int(_status()['VmSize'].split()[0]) << 10
        resource.setrlimit(resource.RLIMIT_AS, (used + _ADDRESS_SPACE,) * 2)
        for seed in self.seeds:
            print(json.dumps(_try(form, self.files, seed, folder / str(seed), whole)), file=answers, flush=True)
        shutil.rmtree(folder)

    def answers(self):
        """Return [(seed, outcome, detail)] that are new, and whether the child has ended."""
        data = os.read(self.pipe, 1 << 16)
        *lines, self.rest = (self.rest + data).split(b'\n')
        if lines:
            self.deadline = time.monotonic() + self.seconds
        return [(self.seeds.pop(0), *json.loads(line)) for line in lines], not data

    def end(self):
        """End it; return the text that tells why it died, or None if it has read all files."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pipe)
        shutil.rmtree(Path(self.folder, str(self.pid)), ignore_errors=True)
        errors = Path(self.folder, f'{self.pid}.err')
        text = errors.read_text(errors='replace')[-4000:] if errors.exists() else ''
        errors.unlink(missing_ok=True)
        return f'died with {os.waitstatus_to_exitcode(status)}: {text}' if self.seeds else None


def _try(form, files, seed, folder, whole):
    """Read one damaged file; return (outcome, detail)."""
    path, content = foreign_files.mutant(form, files, seed)
    foreign_files.place(files | {path: content}, folder)
    printed = os.lseek(2, 0, os.SEEK_CUR)
    _reset_peak()
    before = _resident('VmRSS')
    try:
        outcome, value = foreign_files.read(form, folder)
        grown = _resident('VmHWM') - before
        if grown > 3 * foreign.most_unpacked(len(content)) + form.unpacks:
            outcome, value = 'memory', f'{grown >> 20} MiB for a file of {len(content)} bytes'
        elif outcome == 'read':
            outcome = 'right' if foreign_files.is_right(form, value, content, whole) else 'wrong'
    except Exception:
        outcome, value = 'traceback', traceback.format_exc()
    text = os.pread(2, os.lseek(2, 0, os.SEEK_CUR) - printed, printed).decode(errors='replace')
    if 'Traceback' in text and outcome in ('refused', 'right'):
        outcome, value = 'traceback', text
    shutil.rmtree(folder)
    return outcome, str(value)[-3000:] if outcome in FAILURES else ''


def _status():
    return dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())


def _resident(key):
    return int(_status()[key].split()[0]) << 10


def _reset_peak():
    Path('/proc/self/clear_refs').write_text('5')


def _fork():
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # Python 3.12 warns of threads: NumPy's, which wait
        return os.fork()


def _in_child(work, errors):
    """Do the work of a fork, with its standard error in a file, and end it."""
    code = 1
    try:
        os.dup2(os.open(errors, os.O_RDWR | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(1, 0)
        work()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def _forked(function, folder):
    """Return what a function returns, called in a fork, which may start threads."""
    result, errors = Path(folder, 'result'), Path(folder, 'errors')
    child = _fork()
    if not child:
        _in_child(lambda: result.write_bytes(pickle.dumps(function())), errors)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(errors.read_text(errors='replace'))
    return pickle.loads(result.read_bytes())


class Tally:
    """Counts of outcomes, and the folder of what failed."""

    def __init__(self, keep, columns):
        """Start at zero; see `add` and `failure`."""
        self.keep, self.columns, self.counts = Path(keep), columns, collections.defaultdict(collections.Counter)
        self.failed = False

    def add(self, name, outcome):
        """Count one that was tried."""
        self.counts[name].update((outcome, 'tried'))

    def failure(self, name, label, outcome, detail, replay, files=()):
        """Keep the files of a failure, and a line that repeats it."""
        self.failed = True
        folder = self.keep / re.sub(r'\W+', '_', f'{name} {label} {outcome}')
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in dict(files).items():
            (folder / Path(path).name).write_bytes(content)
        (folder / 'how.txt').write_text(f'{replay}\n\n{detail}\n')
        print(f'{outcome}: {name}: {detail.strip().splitlines()[-1][:200] if detail else ""}: {replay}', flush=True)

    def table(self, first):
        """Return the table in Markdown."""
        columns = 'tried', *self.columns
        lines = [f'| {first} | {" | ".join(columns)} |', '| --- |' + ' ---: |' * len(columns)]
        for name, counts in [*self.counts.items(), ('**all**', sum(self.counts.values(), collections.Counter()))]:
            lines.append(f'| {name} | {" | ".join(f"{counts[column]:,}" for column in columns)} |')
        return '\n'.join(lines)


def hammer(minutes, first_seed, keep, names):
    """Read damaged files for some minutes; return the `Tally`."""
    tally, folder = Tally(keep, OUTCOMES), tempfile.mkdtemp()
    os.environ['XDG_CACHE_HOME'] = folder
    files = {name: _forked(FORMATS[name].make, folder) for name in names}
    next_seed = dict.fromkeys(names, first_seed)
    for name in names:
        tally.counts[name].clear()
    end, waiting, children = time.monotonic() + 60 * minutes, collections.deque(names), {}
    try:
        with selectors.DefaultSelector() as selector:
            while children or time.monotonic() < end:
                while len(children) < system.cores() and time.monotonic() < end:
                    name = waiting.popleft()
                    waiting.append(name)
                    count = -(-_BATCH // 4) if name == _ORBAX else _BATCH  # Orbax takes half a second
                    seeds = range(next_seed[name], next_seed[name] + count)
                    next_seed[name] = seeds.stop
                    _start(Child(name, files[name], seeds, folder), children, selector)
                for key, _ in selector.select(1):
                    child = children[key.fd]
                    answers, ended = child.answers()
                    for seed, outcome, detail in answers:
                        _record(tally, child, seed, outcome, detail)
                    if ended:
                        _finish(tally, child, 'traceback', children, selector)
                for child in [child for child in children.values() if time.monotonic() > child.deadline]:
                    _finish(tally, child, 'hang', children, selector)
    finally:
        for child in children.values():
            child.end()
        shutil.rmtree(folder)
    return tally


def _start(child, children, selector):
    children[child.pipe] = child
    selector.register(child.pipe, selectors.EVENT_READ)


def _finish(tally, child, outcome, children, selector):
    """End a child; the file that it was reading has this outcome, and another child reads the others."""
    del children[child.pipe]
    selector.unregister(child.pipe)
    why = child.end()
    if why is not None:
        _record(tally, child, child.seeds.pop(0), outcome, why)
        if child.seeds:
            _start(Child(child.name, child.files, child.seeds, child.folder), children, selector)


def _record(tally, child, seed, outcome, detail):
    tally.add(child.name, outcome)
    if outcome in FAILURES:
        damaged = dict([foreign_files.mutant(FORMATS[child.name], child.files, seed)])
        replay = f"python scripts/hammer.py --replay '{child.name}' {seed}"
        tally.failure(child.name, seed, outcome, detail, replay, damaged)


def replay(name, seed):
    """Read one damaged file in this process and print what happens."""
    form = FORMATS[name]
    with tempfile.TemporaryDirectory() as folder:
        os.environ['XDG_CACHE_HOME'] = folder
        files = form.make()
        path, content = foreign_files.mutant(form, files, seed)
        foreign_files.place(files, Path(folder, 'whole'))
        foreign_files.place(files | {path: content}, Path(folder, 'damaged'))
        _, whole = foreign_files.read(form, Path(folder, 'whole'))
        how, value = foreign_files.read(form, Path(folder, 'damaged'))
        print(path, how, value if how != 'read' else '', sep=': ')
        if how == 'read':
            is_right = foreign_files.is_right(form, value, content, whole)
            print(f'{"right" if is_right else "wrong"}: {value!r}\nwhole: {whole!r}')


# Kills

_KILLED_SECONDS = 120  # until a command ends, killed or not
_TRAIN = (
    'train.py', '--config', 'configs/lenet5_digits.py', '--config.distortion.versions=1', '--config.num_epochs=4',
    '--config.learning_rates=((4,0.02),)', '--config.checkpoint_every_steps=15', '--config.log_every_steps=15',
)  # fmt: skip


class Command(NamedTuple):
    """A command of the project whose result is compared after kills.

    Fields:
      words: folder -> the words of the command.
      reads: the files and folders of `_prepare`, in the folder, that it needs.
      result: folder -> a value that is equal after kills.
      writes: what it writes, in the folder.
    """

    words: Callable
    reads: tuple
    result: Callable
    writes: str


def _checkpoint(folder):
    import jax

    from training.checkpoints import Checkpoints

    with Checkpoints(folder / 'checkpoints', read_only=True) as manager:
        step = manager.latest()
        metadata = manager._manager.item_metadata(step)
        trees = [manager._read(item, step) for item in ('model', 'training') if metadata.get(item) is not None]

    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        sha.update(f'{path} {np.shape(leaf)} {np.asarray(leaf).dtype}'.encode() + np.asarray(leaf).tobytes())
    return step, sha.hexdigest()


def _trained(folder):
    rows = [json.loads(line) for line in (folder / 'run/metrics.jsonl').read_text().splitlines()]
    rows = [
        {key: value for key, value in row.items() if key not in ('time', 'data_wait')}
        for row in rows
        if row['kind'] != 'resume'
    ]
    return _checkpoint(folder / 'run'), rows


def _packed(folder):
    from input_pipeline import packed

    store = folder / 'store'
    return packed.verify(store), {path.name: packed.sha256(path) for path in store.rglob('*') if path.is_file()}


def _evaluated(folder):
    result = json.loads((folder / 'result.json').read_text())
    for key in ('seconds', 'images_per_second', 'evaluated', 'compiled', 'checkpoint'):
        del result[key]
    return result


def _converted(folder):
    return _checkpoint(folder / 'out'), (folder / 'out/passport.json').read_text()


COMMANDS = {
    'train.py': Command(lambda folder: [*_TRAIN, '--workdir', f'{folder}/run'], (), _trained, 'run'),
    'data.py pack': Command(
        lambda folder: [
            'data.py', 'pack', '--config', f'configs/alexnet.py:folder={folder}/photographs', '--out',
            f'{folder}/store', '--short_side', '64', '--shard_records', '50', '--threads', '2',
        ],
        ('photographs',), _packed, 'store',
    ),
    'evaluate.py --resume': Command(
        lambda folder: [
            'evaluate.py', '--checkpoint', f'{folder}/run', '--resume', '--output', f'{folder}/result.json',
        ],
        ('run',), _evaluated, 'result.json',
    ),
    'convert.py': Command(
        lambda folder: [
            'convert.py', '--arch', 'lenet_caffe', '--source', f'{folder}/lenet.npz', '--out', f'{folder}/out',
        ],
        ('lenet.npz',), _converted, 'out',
    ),
}  # fmt: skip


def _prepare(folder):
    """Write what the commands read, but the run that train.py makes."""
    from PIL import Image

    from weights import convert

    for split, count in (('train', 400), ('val', 100)):
        for number in range(count):
            path = folder / f'photographs/{split}/class{number % 2}/{number}.jpg'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(foreign_files.noise(10 + number % 7, 12, 3)).resize((120, 100 + number)).save(path)
    (release, *_) = convert.candidates('lenet_caffe')
    names = convert.their_names('lenet_caffe', release, 10)
    np.savez(folder / 'lenet.npz', **{name: 0.05 * foreign_files.normal(*shape) for name, shape, _ in names.values()})


def _start_command(name, folder, log):
    """Start a command in a fork; return its process id."""
    child = _fork()
    if not child:

        def work():
            os.chdir(ROOT)
            sys.argv = COMMANDS[name].words(folder)
            sys.path[0] = str(ROOT)
            runpy.run_path(sys.argv[0], run_name='__main__')

        _in_child(work, log)
    return child


def _wait(process, log, allowed=(0,)):
    """Return the exit code of a process.

    Raises:
      TimeoutError: it has not ended within `_KILLED_SECONDS`.
      RuntimeError: the code is none of those allowed.
    """
    end = time.monotonic() + _KILLED_SECONDS
    while not (ended := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise TimeoutError(f'not ended after {_KILLED_SECONDS} s')
        time.sleep(0.005)
    code = os.waitstatus_to_exitcode(ended[1])
    if code not in allowed:
        raise RuntimeError(f'exit code {code}: {log.read_text(errors="replace")[-3000:]}')
    return code


def _names(folder):
    """Return the files and folders in a folder, without the names that differ from run to run."""
    names = {str(path.relative_to(folder)) for path in folder.rglob('*')}
    return {re.sub(r'/d/[0-9a-f]{32}$|events\.out\.tfevents.*', '/...', name) for name in names}


def _copy(names, source, target):
    target.mkdir()
    for name in names:
        copy = shutil.copytree if (source / name).is_dir() else shutil.copy
        copy(source / name, target / name)


def kill(count, seed, keep):
    """Kill commands `count` times; return the `Tally`."""
    tally, draw = Tally(keep, ('SIGKILL', 'SIGTERM', 'had ended', *FAILURES)), random.Random(seed)
    base = Path(tempfile.mkdtemp())
    inputs, log = base / 'inputs', base / 'log'
    try:
        inputs.mkdir()
        _forked(lambda: _prepare(inputs), base)
        undisturbed = {}
        for name, command in COMMANDS.items():
            for _ in range(2):  # the first fills the compilation cache
                folder = base / 'work'
                shutil.rmtree(folder, ignore_errors=True)
                _copy(command.reads, inputs, folder)
                began = time.monotonic()
                _wait(_start_command(name, folder, log), log)
            seconds = time.monotonic() - began
            undisturbed[name] = seconds, _names(folder), _forked(functools.partial(command.result, folder), base)
            if name == 'train.py':
                shutil.copytree(folder / 'run', inputs / 'run')
            shutil.rmtree(folder)
            print(f'{name} takes {seconds:.1f} s undisturbed', flush=True)
        for number, name in enumerate(itertools.cycle(COMMANDS)):
            done = sum(counts['SIGKILL'] + counts['SIGTERM'] for counts in tally.counts.values())
            if done >= count:
                return tally
            folder = base / 'work'  # always the same: its name is in the manifest
            _copy(COMMANDS[name].reads, inputs, folder)
            problem = _kill_until_it_ends(name, draw, min(3, count - done), folder, log, undisturbed[name], tally)
            if problem:
                tally.counts[name][problem[0]] += 1
                again = f'python scripts/hammer.py --minutes 0 --kills {count} --seed {seed}'
                tally.failure(name, number, *problem, again)
                shutil.copytree(folder, Path(keep, f'kill{number}'), dirs_exist_ok=True)
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _kill_until_it_ends(name, draw, most, folder, log, undisturbed, tally):
    """Kill a command up to `most` times, then let it end; return (outcome, detail) if anything is wrong."""
    seconds, names, result = undisturbed
    command, history = COMMANDS[name], []
    try:
        for _ in range(draw.randint(1, most)):
            number = draw.choice((signal.SIGKILL, signal.SIGTERM))
            process = _start_command(name, folder, log)
            after = draw.uniform(0, seconds)
            time.sleep(after)
            os.kill(process, number)
            code = _wait(process, log, (0, -number, 128 + number, 2))
            if code == 2 and not _was_complete(name, log):
                return 'wrong', f'exit code 2 after {history}: {log.read_text(errors="replace")}'
            tally.add(name, 'had ended' if code in (0, 2) else number.name)
            history.append(f'{number.name} after {after:.2f} s')
        code = _wait(_start_command(name, folder, log), log, (0, 2))
        if code == 2 and not _was_complete(name, log):
            return 'wrong', f'exit code 2 after {history}: {log.read_text(errors="replace")}'
    except TimeoutError as error:
        return 'hang', f'{history}: {error}'
    except RuntimeError as error:
        return 'traceback', f'{history}: {error}'
    if 'Traceback' in log.read_text(errors='replace'):
        return 'traceback', f'{history}: {log.read_text(errors="replace")}'
    if more := sorted(_names(folder) ^ names):
        return 'wrong', f'{history}: other files: {more}'
    if not foreign_files.same(again := _forked(functools.partial(command.result, folder), folder.parent), result):
        return 'wrong', f'{history}: {again!r}, not {result!r}'
    return None


def _was_complete(name, log):
    """Return whether a command was refused because the one that was killed had just written its result."""
    return name == 'convert.py' and 'already exists and is not overwritten' in log.read_text(errors='replace')


# The command line


def main():
    """Print the tables; return 1 if anything failed."""
    parser = Parser(description=__doc__.partition('\n')[0])
    parser.add_argument('--minutes', type=float, default=1, help='how long to damage files (1)')
    parser.add_argument('--kills', type=int, default=0, help='how many commands to kill (0)')
    parser.add_argument('--seed', type=int, default=0, help='the first seed (0)')
    parser.add_argument('--keep', default='runs/hammer', help='the folder for what fails (runs/hammer)')
    parser.add_argument('--formats', default='*', help='a pattern of formats, such as "weights*" (*)')
    parser.add_argument('--replay', nargs=2, metavar=('FORMAT', 'SEED'), help='read one damaged file here')
    flags = parser.parse_args()
    warnings.simplefilter('ignore')  # zipfile's, when it writes a name twice
    gc.freeze()
    if flags.replay:
        replay(flags.replay[0], int(flags.replay[1]))
        return 0
    failed = False
    if flags.minutes:
        began = time.monotonic()
        tally = hammer(flags.minutes, flags.seed, flags.keep, fnmatch.filter(FORMATS, flags.formats))
        print(tally.table('format'))
        count, seconds = sum(counts['tried'] for counts in tally.counts.values()), time.monotonic() - began
        print(f'\n{count:,} files in {seconds:.0f} s', flush=True)
        failed = tally.failed
    if flags.kills:
        tally = kill(flags.kills, flags.seed, flags.keep)
        print(tally.table('command'))
        failed |= tally.failed
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
