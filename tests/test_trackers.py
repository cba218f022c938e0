"""Experiment trackers against the log: the run as their own readers see it, a failure, a missing package."""

import collections
import importlib.util
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, digits, one_device_environment

from configs import base
from runtime.errors import UserError
from training import log, loop, trackers

TIME = {'total': 1.0}


def needs(package):
    return pytest.mark.skipif(not importlib.util.find_spec(package), reason=f'{package} is not installed')


def scalars(rows):
    """(name, step, value) of every number of the rows of a log, each with how often it is there."""
    return collections.Counter(
        (f'{row["kind"]}/{name}', row['step'], np.float64(value))
        for row in rows
        for name, value in {**row, **row['time']}.items()
        if isinstance(value, (int, float)) and name != 'step'
    )


# Without a tracker


@pytest.mark.parametrize('tracker', sorted(trackers.TRACKERS))
def test_a_missing_package_is_said_before_the_workdir_is_claimed(tmp_path, monkeypatch, tracker):
    monkeypatch.setitem(sys.modules, tracker, None)  # as if it were not installed
    with pytest.raises(UserError, match=f'^tracker={tracker} needs the package {tracker}: pip install {tracker}$'):
        loop.train(digits(tracker=tracker), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_folder_with_the_name_of_a_package_is_none(tmp_path, monkeypatch):
    (tmp_path / 'wandb').mkdir()  # W&B makes it where it runs
    monkeypatch.delitem(sys.modules, 'wandb', raising=False)
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    with pytest.raises(UserError, match='pip install wandb'):
        trackers.check('wandb')


def test_an_unknown_tracker_is_named(tmp_path):
    assert base.CHOICES['tracker'] == ('', *trackers.TRACKERS)
    with pytest.raises(UserError, match="^tracker must be one of empty, wandb, mlflow, not 'tensorbord'$"):
        loop.train(digits(tracker='tensorbord'), tmp_path)


class Failing:
    """A tracker that takes so many rows, or that cannot be opened."""

    rows = 1

    def __init__(self, folder, values, run_id):
        self.run_id, self.where, self.taken = run_id or 'first', folder, []
        if not self.rows:
            raise RuntimeError('api_key not configured\n(no-tty)')

    def write(self, step, numbers):
        if len(self.taken) == self.rows:
            raise ConnectionError('no route to the server')
        self.taken.append((step, numbers))

    def close(self, is_finished):
        raise ConnectionError('no route to the server')


@pytest.mark.parametrize('rows, reason', [(0, 'api_key not configured'), (1, 'no route to the server')])
def test_a_tracker_that_fails_is_left_out_with_one_line(tmp_path, monkeypatch, capsys, rows, reason):
    monkeypatch.setitem(trackers.TRACKERS, 'wandb', Failing)
    monkeypatch.setattr(Failing, 'rows', rows)
    run_log = log.RunLog(tmp_path)
    run_log.track(digits(tracker='wandb'), 0, TIME)
    for step in range(1, 4):
        run_log.write('train', step, TIME, loss=0.5)
    run_log.close()
    expected = f'warning: wandb cannot be written ({reason}); the run goes on without, and {log.NAME} has all numbers\n'
    assert capsys.readouterr().err == expected
    assert [row['step'] for row in log.read(tmp_path) if row['kind'] == 'train'] == [1, 2, 3]


def test_only_the_process_that_writes_tracks(tmp_path, monkeypatch):
    monkeypatch.setitem(trackers.TRACKERS, 'wandb', Failing)
    run_log = log.RunLog(tmp_path, writes=False)
    run_log.track(digits(tracker='wandb'), 0, TIME)
    run_log.write('train', 1, TIME, loss=0.5)
    run_log.close()
    assert [row['kind'] for row in run_log.rows] == ['train']


@pytest.mark.parametrize(
    'row', [{'tracker': 'wandb'}, {'tracker': 'wandb', 'id': 7}, {'tracker': ['wandb'], 'id': 'a'}]
)
def test_a_damaged_id_is_refused(tmp_path, row):
    (tmp_path / log.NAME).write_text(json.dumps({'kind': 'tracker', 'step': 0, 'time': TIME, **row}) + '\n')
    with pytest.raises(UserError, match='line 1 of .*metrics.jsonl is not a row of a log'):
        log.read(tmp_path)


# With W&B and MLflow, offline: what their own readers find

CONFIG = (
    '--config', 'configs/lenet5_digits.py', '--config.distortion.versions=1', '--config.learning_rates=((3,0.02),)',
    '--config.num_epochs=3.0', '--config.log_every_steps=3',
)  # fmt: skip

READERS = {
    'wandb': """
import collections, json, pathlib, struct, sys
from wandb.proto import wandb_internal_pb2

def records(data):  # blocks of 32 KiB, each of chunks with a checksum, a length and a type, as of LevelDB's log
    assert data[:4] == b':W&B'
    at, text = 7, b''
    while at < len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from('<IHB', data, at)
        text += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, last
            yield text
            text = b''

runs, hosts, numbers, codes, kinds = set(), set(), [], [], set()
for path in sorted(pathlib.Path(sys.argv[1]).glob('wandb/offline-run-*/run-*.wandb')):
    for data in records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kinds.add(record.WhichOneof('record_type'))
        if record.HasField('run'):
            runs.add((record.run.run_id, record.run.project, record.run.display_name))
            hosts.add(record.run.host)
            values = {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if record.HasField('history'):
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            numbers += [(name, row['step'], value) for name, value in row.items() if name[0] != '_' and name != 'step']
        if record.HasField('exit'):
            codes.append(record.exit.exit_code)
(run,) = runs
besides = sorted(kinds | hosts)
json.dump({'run': run, 'values': values, 'numbers': numbers, 'status': codes, 'besides': besides}, sys.stdout)
""",
    'mlflow': """
import json, sys
from mlflow import MlflowClient
client = MlflowClient()
(experiment,) = client.search_experiments(filter_string="name = 'imagenet-decade'")
(run,) = client.search_runs([experiment.experiment_id])
numbers = [
    (name, point.step, point.value)
    for name in run.data.metrics
    for point in client.get_metric_history(run.info.run_id, name)
]
json.dump({'run': (run.info.run_id, experiment.name, run.info.run_name), 'values': run.data.params, 'numbers': numbers,
    'status': [run.info.status], 'besides': sorted(run.data.tags)}, sys.stdout)
""",
}  # fmt: skip


@pytest.fixture
def tracked(tmp_path, request):
    """Trains with a tracker in a new process, and reads the run back with the tracker's own reader."""
    tracker, workdir = request.param, tmp_path / 'run'
    env = one_device_environment() | {
        'WANDB_MODE': 'offline', 'MLFLOW_TRACKING_URI': (tmp_path / 'mlruns').as_uri(),
        'MLFLOW_ALLOW_FILE_STORE': 'true', 'HOME': str(tmp_path / 'home'),
    }  # fmt: skip
    command = [sys.executable, 'train.py', *CONFIG, '--workdir', str(workdir), f'--config.tracker={tracker}']

    class Tracked:
        folder = workdir
        where = env

        def start(self, *options):
            pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
            return subprocess.Popen([*command, *options], cwd=ROOT, env=self.where, **pipes)

        def train(self, *options):
            process = self.start(*options)
            out, errors = process.communicate(timeout=200)
            return process.returncode, out, errors

        def read(self):
            reader = [sys.executable, '-c', READERS[tracker], str(workdir)]
            done = subprocess.run(reader, env=env, capture_output=True, text=True, timeout=100)
            assert done.returncode == 0, done.stderr
            found = json.loads(done.stdout)
            found['numbers'] = collections.Counter(
                (name, int(step), np.float64(value)) for name, step, value in found['numbers']
            )
            return found

    Tracked.name = tracker
    return Tracked()


BOTH = [pytest.param(name, marks=needs(name)) for name in sorted(trackers.TRACKERS)]


@pytest.mark.slow
@pytest.mark.parametrize('tracked', BOTH, indirect=True)
def test_a_tracked_run_has_the_numbers_of_the_log_and_continues_when_resumed(tracked):
    code, _, errors = tracked.train('--config.tracker=', '--config.stop_at_step=5')  # not tracked yet
    assert (code, errors) == (0, '')
    for stop in (7, 0):  # between two rows; to the end
        code, _, errors = tracked.train(f'--config.stop_at_step={stop}')
        assert (code, errors) == (0, '')
    found = tracked.read()
    assert found['numbers'] == scalars(log.read(tracked.folder)) and max(found['numbers'].values()) == 1
    (row,) = (row for row in log.read(tracked.folder) if row['kind'] == 'tracker')
    assert found['run'] == [row['id'], 'imagenet-decade', 'run'] and row['tracker'] == tracked.name
    config = json.loads((tracked.folder / 'config.json').read_text())
    values = found['values']
    assert str(values['batch_size']) == str(config['batch_size']) and values['crop.kind'] == config['crop']['kind']
    assert found['status'] == {'wandb': [1, 0], 'mlflow': ['FINISHED']}[tracked.name]
    # Nothing but the config and the numbers: '' is the name of the machine.
    wandb = ['', 'exit', 'header', 'history', 'metric', 'run', 'summary', 'telemetry']
    assert found['besides'] == {'wandb': wandb, 'mlflow': ['mlflow.runName']}[tracked.name]
    assert not [path for path in tracked.folder.glob('wandb/offline-run-*/files/**/*') if path.is_file()]
    assert not (tracked.folder.parent / 'home/.netrc').exists()


@pytest.mark.slow
@pytest.mark.parametrize('tracked', BOTH, indirect=True)
def test_a_killed_run_has_the_steps_that_it_repeats_twice(tracked):
    process = tracked.start()
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        rows = log.read(tracked.folder) if (tracked.folder / log.NAME).exists() else []
        if any(row['kind'] == 'train' and row['step'] > 12 for row in rows):  # behind the first epoch's checkpoint
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, _, errors = tracked.train()
    assert (code, errors) == (0, '')
    found, rows = tracked.read()['numbers'], log.read(tracked.folder)
    resumed = next(at for at, row in enumerate(rows) if row['kind'] == 'resume')
    assert set(found) >= set(scalars(rows[resumed:]))
    of_the_clock = {'train/total', 'train/images_per_second', 'train/data_wait', 'epoch/total'}
    assert {name for name, *_ in set(found) - set(scalars(rows))} <= of_the_clock
    if tracked.name == 'mlflow':  # what W&B has not written to its file is lost with the process
        assert set(found) >= set(scalars(rows)) and max(found.values()) == 2


@pytest.mark.slow
@pytest.mark.parametrize('tracked', BOTH, indirect=True)
def test_a_run_without_its_server_trains_to_its_end(tracked):
    nowhere = 'http://127.0.0.1:9'
    tracked.where = tracked.where | {
        'WANDB_MODE': 'online', 'WANDB_BASE_URL': nowhere, 'WANDB_API_KEY': 40 * 'a', 'MLFLOW_TRACKING_URI': nowhere
    }  # fmt: skip
    start = time.monotonic()
    code, _, errors = tracked.train()
    assert code == 0 and time.monotonic() - start < 120
    (line,) = errors.splitlines()
    assert line.startswith(f'warning: {tracked.name} cannot be written (')
    assert log.read(tracked.folder)[-1]['kind'] == 'finished'


@pytest.mark.slow
@needs('wandb')
@pytest.mark.parametrize('tracked', ['wandb'], indirect=True)
def test_without_a_login_nothing_is_asked_and_nothing_is_sent(tracked):
    tracked.where = {key: value for key, value in tracked.where.items() if not key.startswith('WANDB_')}
    code, _, errors = tracked.train()
    assert code == 0
    (line,) = errors.splitlines()
    assert line.startswith('warning: wandb cannot be written (') and 'wandb login' in line
