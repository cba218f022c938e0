"""The scripts as a user runs them: in processes of their own, killed, interrupted, given the wrong thing."""

import csv
import importlib.util
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, digits, evaluate_folder
from PIL import Image

import evaluation
from configs import lenet5_digits
from input_pipeline import loader
from runtime.errors import UserError
from training import loop
from training import workdir as workdirs
from training.workdir import claimed

DIGITS = ('--config', 'configs/lenet5_digits.py')
ALEXNET = ('--config', 'configs/alexnet.py')
SHORT = ('--config.num_epochs=3', '--config.learning_rates=((2,0.02),(1,0.004))')


@pytest.fixture(scope='module')
def trained(tmp_path_factory, warm):
    """A short run on the digits: its workdir and its output."""
    workdir = tmp_path_factory.mktemp('trained') / 'run'
    done = warm.run('train.py', *DIGITS, *SHORT, '--workdir', str(workdir))
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def test_a_run_tells_what_it_did(trained):
    workdir, out = trained
    assert 'data: digits, 1,437 training and 360 test images' in out
    assert 'model: lenet5, 61,706 parameters' in out
    assert re.search(r'throughput: [\d,]+ images/s', out)
    assert re.search(r'^peak memory: [\d.]+ [MG]B of the (process|device)$', out, re.MULTILINE)
    assert re.search(r'test error: [\d.]+% at step 135 \(\d+ of 360 wrong\)', out)
    held = {entry.name.split('.')[0] for entry in workdir.iterdir()}
    assert held == {'config', 'metrics', 'events', 'checkpoints'}
    assert json.loads((workdir / 'config.json').read_text())['learning_rates'] == [[2, 0.02], [1, 0.004]]


def test_the_command_that_a_run_prints_evaluates_it(trained, script):
    printed = shlex.split(re.search(r'^evaluate: python (.*)$', trained[1], re.MULTILINE)[1])
    done = script(*printed)
    assert done.returncode == 0 and 'top-1 error:' in done.stdout, done.stderr


def test_seconds_add_up(trained):
    total, parts = re.search(r'seconds, restarts included: ([\d.]+) = (.*)', trained[1]).groups()
    assert sum(float(n) for n in re.findall(r'[\d.]+', parts)) == pytest.approx(float(total), abs=0.5)


def test_the_same_command_again_says_that_it_is_finished(trained, script):
    workdir, _ = trained
    before = (workdir / 'checkpoints').stat().st_mtime
    again = script('train.py', *DIGITS, *SHORT, '--workdir', workdir)
    assert again.returncode == 0 and 'this run is finished' in again.stdout
    assert (workdir / 'checkpoints').stat().st_mtime == before


def test_evaluation_is_what_training_saw(trained, script, tmp_path, eight_devices):
    workdir, _ = trained
    epochs = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    last = [row for row in epochs if row['kind'] == 'epoch'][-1]
    results = []
    for size in (500, 7):  # one padded batch; many, the last of 3
        output = tmp_path / f'{size}.json'
        done = script(
            'evaluate.py', *DIGITS, '--checkpoint', workdir, '--step', 'latest', '--output', output,
            f'--config.test_batch_size={size}',
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        results.append(json.loads(output.read_text()))
    for result in results:
        assert result['wrong_top1'] == last['test_wrong_top1'] and result['num_examples'] == 360
        assert result['wrong_top5'] == last['test_wrong_top5'] and result['protocol'] == 'single'
        assert result['top1_error'] == pytest.approx(100 * result['wrong_top1'] / 360)
    # and on this process's eight devices, in batches that they do not divide evenly
    config = lenet5_digits.get_config()
    config.test_batch_size = 30
    eight = evaluate_folder(config, workdir, 'latest')
    assert {k: eight[k] for k in ('wrong_top1', 'wrong_top5', 'num_examples')} == {
        k: results[0][k] for k in ('wrong_top1', 'wrong_top5', 'num_examples')
    }
    one = script('evaluate.py', *DIGITS, '--checkpoint', workdir / 'checkpoints' / str(last['step']))
    assert f'({last["test_wrong_top1"]} wrong;' in one.stdout


def test_an_ensemble_of_a_checkpoint_with_itself_is_the_checkpoint(trained, script, tmp_path):
    workdir, _ = trained
    results = []
    for members in (1, 2):
        output = tmp_path / f'{members}.json'
        done = script('evaluate.py', '--checkpoint', *[workdir] * members, '--output', output, '--worst')
        assert done.returncode == 0, done.stderr
        assert 'confusion matrix' in done.stdout and 'worst pictures' in done.stdout
        results.append(json.loads(output.read_text()))
    one, two = results
    assert two['protocol'] == ['single'] * 2 and two['checkpoint'] == [one['checkpoint']] * 2
    assert all(one[key] == two[key] for key in ('wrong_top1', 'wrong_top5', 'num_examples', 'top1_interval', 'classes'))
    assert sum(entry['num_examples'] for entry in one['classes']) == 360
    assert sum(entry['count'] for entry in one['confusions']) == one['wrong_top1']


def test_what_an_evaluation_writes(trained, script, tmp_path):
    workdir, _ = trained
    done = script(
        'evaluate.py', '--checkpoint', workdir, '--predictions', tmp_path / 'p.csv', '--output', tmp_path / 'o'
    )
    with open(tmp_path / 'p.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    result = json.loads((tmp_path / 'o').read_text())
    assert done.returncode == 0 and len(rows) == 360 and rows[7]['file'] == 'digits/test[7]'
    assert sum(row['label'] != row['class1'] for row in rows) == result['wrong_top1']
    assert not list(workdir.glob('*.partial'))


def test_an_interrupted_evaluation_is_continued(trained, tmp_path):
    workdir, _ = trained
    config, partial = lenet5_digits.get_config(), str(tmp_path / 'rows.partial')
    config.test_batch_size = 10
    checkpoint = evaluation.open_checkpoint(config, workdir)
    whole, rows, _ = evaluation.evaluate(config, checkpoint)
    seen = []

    def interrupt(amount):
        seen.append(amount)
        if len(seen) > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluation.evaluate(config, checkpoint, partial=partial, progress=interrupt)
    with pytest.raises(UserError, match='holds an interrupted evaluation: pass --resume'):
        evaluation.evaluate(config, checkpoint, partial=partial)
    other = evaluation.open_checkpoint(config, workdir, average='logits')
    with pytest.raises(UserError, match="of another evaluation: protocol was .'single'. and is now .'single.logits'."):
        evaluation.evaluate(config, other, partial=partial, resume=True)
    config.test_split = 'train'
    with pytest.raises(UserError, match='is of another evaluation: data was .digits/test: 360 images'):
        evaluation.evaluate(config, checkpoint, partial=partial, resume=True)
    config.test_split = 'test'
    result, again, _ = evaluation.evaluate(config, checkpoint, partial=partial, resume=True)
    assert 0 < result['evaluated'] < 360 and again == rows
    same = ('wrong_top1', 'wrong_top5', 'num_examples', 'loss')
    assert {key: result[key] for key in same} == {key: whole[key] for key in same}


def start(env, *arguments):
    command = [sys.executable, 'train.py', *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path, text, process):
    while process.poll() is None:
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.01)
    pytest.fail(f'ended before {text}: {process.stdout.read()}')


@pytest.mark.parametrize(
    'number, code', [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_says_how_to_resume(script, tmp_path, number, code):
    workdir = tmp_path / 'run'
    arguments = (*DIGITS, '--workdir', workdir)
    process = start(script.env, *arguments)
    wait_for(workdir / 'metrics.jsonl', '"epoch": 2', process)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    step = int(re.search(r'saved at step ([\d,]+)\. The same command resumes', out)[1].replace(',', ''))
    assert 'Traceback' not in out
    again = script('train.py', *arguments, f'--config.stop_at_step={step + 20}')
    assert f'resuming at step {step:,}' in again.stdout and again.returncode == 0, again.stderr


@pytest.mark.slow
@pytest.mark.optimized
def test_killed_and_resumed_is_the_run_that_was_not(script):
    """SIGKILL four times, once while a checkpoint is written: bit for bit an uninterrupted run."""
    done = script('train.py', *DIGITS, '--verify_resume')
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('killed after') == 4 and 'writing a checkpoint' in done.stdout
    assert done.stdout.count('identical') == 5


@pytest.mark.slow
def test_a_nan_loss_stops_the_run(script, tmp_path):
    done = script('train.py', *DIGITS, '--config.learning_rates=((2,0.02),(9,1e12))', '--workdir', tmp_path / 'run')
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    step, good = map(int, re.search(r'at step (\d+) .* last good checkpoint is step (\d+)', line).groups())
    assert 90 <= step <= 95 and good == 90  # the rate explodes after two epochs of 45 steps
    checked = script('evaluate.py', *DIGITS, '--checkpoint', tmp_path / 'run')
    assert checked.returncode == 0


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_good_checkpoint(script, tmp_path):
    """A limit on the size of files simulates a full disk: the checkpoint is the only large file."""
    workdir = tmp_path / 'run'
    first = script('train.py', *DIGITS, '--config.stop_at_step=45', '--workdir', workdir)
    assert first.returncode == 0, first.stderr
    limit = ['bash', '-c', 'ulimit -f 100; exec "$@"', 'limited']  # 100 KB; the parameters are 241
    command = [*limit, sys.executable, 'train.py', *DIGITS, '--workdir', str(workdir)]
    env = script.env | {'JAX_ENABLE_COMPILATION_CACHE': 'false'}
    full = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=200)
    assert full.returncode == 2, full.stdout + full.stderr
    line = full.stderr.strip().splitlines()[-1]
    assert 'could not be written (File too large); the last good one is step 45' in line
    assert 'Traceback' not in full.stderr
    resumed = script('train.py', *DIGITS, '--config.stop_at_step=60', '--workdir', workdir)
    assert resumed.returncode == 0 and 'resuming at step 45' in resumed.stdout


def test_training_streams_a_folder(script, tmp_path):
    """Class folders of PNGs, one of them broken: streamed, resumed in mid-epoch with another batch size, evaluated."""
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for label in range(3):
            folder = tmp_path / 'data' / split / f'class{label}'
            folder.mkdir(parents=True)
            for i in range(12):
                pixels = rng.integers(0, 60, (20, 24, 3), np.uint8) + 80 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f'{i}.png')
    for split in ('train', 'test'):
        (tmp_path / 'data' / split / 'class1' / '4.png').write_bytes(b'no image')
    common = (
        *DIGITS, '--config.dataset=folder', f'--config.data_dir={tmp_path / "data"}', '--config.num_classes=3',
        '--config.batch_size=8', '--config.num_epochs=4', '--config.learning_rates=((4,0.02),)',
        '--config.distortion.versions=1', '--config.log_every_steps=4',
        '--workdir', tmp_path / 'run',
    )  # fmt: skip
    stopped = script('train.py', *common)
    assert stopped.returncode == 2 and '4.png cannot be decoded' in stopped.stderr
    common = (*common[:-1], tmp_path / 'other', '--config.on_bad_image=skip')
    half = script('train.py', *common, '--config.stop_at_step=7')
    assert half.returncode == 0 and '36 training and 36 test images, 3 classes, streamed' in half.stdout, half.stderr
    shutil.copytree(tmp_path / 'data', tmp_path / 'fewer')
    (tmp_path / 'fewer' / 'train' / 'class0' / '0.png').unlink()
    for flags in ((), ('--check',)):
        refused = script('train.py', *common, f'--config.data_dir={tmp_path / "fewer"}', *flags)
        assert refused.returncode == 2 and 'contains a run with 36 training images, and here are 35' in refused.stderr
    rest = script('train.py', *common, '--config.batch_size=4')
    assert rest.returncode == 0 and 'resuming at step 7: example 20 of epoch 2' in rest.stdout, rest.stderr
    assert 'replaced in train in the last epoch: 1 images that cannot be read' in rest.stdout
    assert 'left out of test in the last epoch: 1 images that cannot be read' in rest.stdout
    rows = [json.loads(line) for line in (tmp_path / 'other' / 'metrics.jsonl').read_text().splitlines()]
    assert all(0 <= row['time']['data_wait'] < 1 for row in rows if row['kind'] == 'train')
    epochs = [row for row in rows if row['kind'] == 'epoch']
    last = epochs[-1]
    assert sum(row.get('train_bad_images', 0) for row in epochs) == 4  # once an epoch
    assert last['test_num_examples'] == 35 and last['test_bad_images'] == 1
    # 7 steps of 8 and 22 of 4 are 4 epochs of 36: nothing came twice and nothing was left out.
    assert last['step'] == 29
    digest = 0
    for number in loader.example_order(0, 144, 36, seed=0)[0].tolist():
        digest = (digest * 1_000_003 + number + 1) % 2**32
    assert last['order_digest'] == digest


@pytest.mark.parametrize(
    'name, arguments, says',
    [
        ('train.py', (), 'no config: pass --config configs/NAME.py'),
        ('train.py', ('--config', 'configs/lenet5_digit.py'), 'did you mean lenet5_digits?'),
        ('train.py', ('--config', 'configs/checkpoint.py:runs'), 'is now runtime/stored_config.py'),
        ('train.py', ('--config',), 'no config file'),
        ('train.py', (*DIGITS, '--config.batch_sise=3'), 'did you mean batch_size?'),
        ('train.py', (*DIGITS, '--config.distortion.versons=3'), 'did you mean versions?'),
        ('train.py', (*DIGITS, '--config.batch_size=abc'), "config.batch_size=abc: 'abc' is not a whole number"),
        ('train.py', (*DIGITS, '--config.momentum=abc'), "config.momentum=abc: 'abc' is not a number"),
        ('train.py', (*DIGITS, '--config.colour.flip=maybe'), "'maybe' is neither true nor false"),
        ('train.py', (*DIGITS, '--config.colour=3'), 'this is a group: pass --config.colour.KEY=VALUE'),
        ('train.py', (*DIGITS, '--config.batch_size=0'), 'batch_size must be above 0, not 0'),
        ('train.py', (*DIGITS, '--config.optimizer=sgdd'), 'did you mean sgd?'),
        (
            'train.py',
            ('--config', 'configs/alexnet.py', '--config.data_dir=/nowhere'),
            'no ImageNet (train) in /nowhere',
        ),
        ('train.py', (*DIGITS, '--config.crop.kind=randon'), 'did you mean random?'),
        ('train.py', (*DIGITS, '--workers=3'), 'workers'),
        ('train.py', (*DIGITS, '--config.image_size=10'), 'lenet5 cannot process images of 10x10'),
        ('train.py', (*DIGITS, 'more'), "unknown argument 'more'"),
        ('train.py', ('--config', 'configs/lenet5.py'), 'pass --config.data_dir=FOLDER'),
        ('train.py', (*DIGITS, '--workdir', '/proc/here'), 'cannot be written'),
        ('train.py', (*DIGITS, '--workdir', '/usr'), 'is not empty and contains no run'),
        ('train.py', (*DIGITS, '--workdir', 'ftp://a/b'), 'pass gs://BUCKET/RUN, or a folder'),
        ('evaluate.py', DIGITS, 'no checkpoint: pass --checkpoint DIR'),
        ('evaluate.py', (*DIGITS, '--checkpoint', 'nowhere'), 'nowhere does not exist'),
        ('evaluate.py', (*DIGITS, '--checkpoint', 'a', 'b', '--weights=2'), '1 weights for 2 checkpoints'),
        (
            'evaluate.py',
            (*DIGITS, '--checkpoint', 'a', '--weights=-1'),
            "must be positive numbers, as in 2,1, not '-1'",
        ),
        ('evaluate.py', (*DIGITS, '--checkpoint', 'a', '--protocol', 'single', 'single'), '2 protocols for 1 checkp'),
        ('evaluate.py', (*DIGITS, '--checkpoint', 'a', '--protocol=vgg_dens'), 'did you mean vgg_dense?'),
        ('evaluate.py', (*DIGITS, '--checkpoint', 'a', '--submission=x'), "pass --devkit DIR, the ILSVRC2012 devkit's"),
        (
            'evaluate.py',
            (*DIGITS, '--checkpoint', 'a', '--submission=x', '--devkit=y'),
            "--submission needs all of ILSVRC's 1000 classes",
        ),
        ('evaluate.py', (*DIGITS, '--checkpoint', 'a', '--table=vgg3', '--average=logits'), 'leave --average out'),
        ('evaluate.py', (*DIGITS, '--checkpoint', 'a', '--output=no/x.json'), 'no/x.json cannot be written'),
    ],
)
def test_what_a_user_gets_wrong_is_reported_in_one_line(script, name, arguments, says):
    done = script(name, *arguments)
    (line,) = done.stderr.strip().splitlines()
    assert says in line and line.startswith(f'{name}: error: ')
    assert done.returncode == 2


@pytest.mark.parametrize(
    'words',
    [
        *((f'{name}.py',) for name in ('train', 'evaluate', 'predict', 'convert', 'visualize', 'data')),
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for name in ('pack', 'show', 'statistics', 'prepare')
            for words in (('data.py', name), ('-m', f'input_pipeline.{name}'))  # the old spelling
        ),
        ('benchmark.py', 'nothing'),
        ('-m', 'architectures', 'nothing'),
        ('-m', 'configs', 'nothing'),
    ],
    ids=' '.join,
)
def test_each_script_ends_in_a_line_in_an_interpreter_of_its_own(script, words):
    """All other tests run scripts in forks of a process that has imported the packages."""
    done = script.fresh(*words)
    assert done.returncode == 2 and not done.stdout
    assert len(done.stderr.strip().splitlines()) == 1 and 'error: ' in done.stderr


@pytest.mark.skipif(importlib.util.find_spec('tensorflow') is not None, reason='TensorFlow is installed')
def test_preparing_says_what_it_needs(script):
    done = script('data.py', 'prepare', 'mnist')
    assert done.returncode == 2 and 'pip install -r requirements-prepare.txt' in done.stderr


def test_another_config_or_network_in_a_workdir_is_refused(trained, script):
    workdir, _ = trained
    before = sorted(p.name for p in workdir.rglob('*'))
    other = script('train.py', *DIGITS, *SHORT, '--config.seed=1', '--workdir', workdir)
    assert other.returncode == 2 and 'seed is 0 there and 1 here' in other.stderr
    other = script('evaluate.py', *DIGITS, '--config.architecture=lenet5_1998', '--checkpoint', workdir)
    assert other.returncode == 2 and 'holds lenet5, and the config names lenet5_1998' in other.stderr
    other = script('evaluate.py', *DIGITS, '--checkpoint', workdir, '--step', '7')
    assert other.returncode == 2 and 'has no step 7' in other.stderr
    assert sorted(p.name for p in workdir.rglob('*')) == before


def test_a_workdir_in_a_bucket(tmp_path, monkeypatch, linear):
    """A folder stands in for the bucket: a new machine resumes the run from it."""
    bucket = tmp_path / 'bucket' / 'run'
    stand_in = types.SimpleNamespace(Path=lambda path: Path(path.removeprefix('any://')))
    monkeypatch.setattr(workdirs, 'epath', stand_in)
    config = digits(architecture='linear', num_epochs=3.0, learning_rates=((3, 0.02),), stop_at_step=60)
    config.optimizer = 'momentum'

    def train(machine):
        (tmp_path / machine).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / machine)
        return loop.train(config, f'any://{bucket}')

    train('first')
    assert {entry.name for entry in bucket.iterdir()} == {'checkpoints', 'config.json', 'metrics.jsonl'}
    config.stop_at_step = 0
    assert train('second')['epoch'] == 3
    rows = [json.loads(line) for line in (bucket / 'metrics.jsonl').read_text().splitlines()]
    assert [row['step'] for row in rows if row['kind'] == 'resume'] == [60]
    assert [row['epoch'] for row in rows if row['kind'] == 'epoch'] == [1, 2, 3] and rows[-1]['kind'] == 'finished'
    config.seed = 1
    with pytest.raises(UserError, match='seed is 0 there and 1 here'):
        train('third')


def claim(workdir, config):
    with claimed(workdir, config):
        pass


def test_a_workdir_is_for_one_process_and_one_config(tmp_path):
    workdir, config = tmp_path / 'run', lenet5_digits.get_config()
    with claimed(workdir, config), pytest.raises(UserError, match='another process is training'):
        claim(workdir, config)
    config.log_every_steps = 7  # how often it speaks may change
    claim(workdir, config)
    config.distortion.shear = 0.5
    with pytest.raises(UserError, match=r'distortion.shear is 0.2 there and 0.5 here'):
        claim(workdir, config)
    (workdir / 'config.json').write_text('{')
    with pytest.raises(UserError, match='config.json is not the config of one network .*; restore it'):
        claim(workdir, config)


@pytest.mark.parametrize('name', ['evaluate.py', 'predict.py', 'visualize.py'])
def test_a_missing_checkpoint_is_a_line_without_a_word_of_our_code(script, tmp_path, name):
    figure = ('filters', '--out', tmp_path / 'x.png') if name == 'visualize.py' else ()
    done = script(name, *figure, '--checkpoint', tmp_path / 'none', *[tmp_path] * (name == 'predict.py'))
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith(f'{name}: error: {tmp_path / "none"} does not exist: pass the folder of a run')
