"""Several processes on one machine, two virtual devices each, that train as one: the same run, and what ends it."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import QUICK_FLAGS, ROOT

from input_pipeline import datasets, loader
from runtime import distributed, mesh
from runtime.errors import UserError
from training import checkpoints

RUN = (
    '--config', 'configs/lenet5_digits.py', '--config.optimizer=momentum', '--config.batch_size=32',
    '--config.num_epochs=1', '--config.learning_rates=((1,0.0002),)', '--config.log_every_steps=10',
)  # fmt: skip
STREAMED = (
    '--config', 'configs/resnet20.py:cifar10,option.depth=8', '--config.image_size=32', '--config.batch_size=16',
    '--config.architecture_options.group_size=4', '--config.num_epochs=1', '--config.learning_rates=((1,1e-6),)',
    '--config.log_every_steps=1', '--config.test_batch_size=16',
)  # fmt: skip


def environment(script, devices):
    return script.env | {
        'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': f'{QUICK_FLAGS} --xla_force_host_platform_device_count={devices}',
        'NPROC': '16', 'PJRT_NPROC': '16',
    }  # fmt: skip


def free_port():
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


class Processes:
    """`train.py` as so many processes; `wait` returns their exit codes and outputs. A `with` block ends them.

    `own` are further arguments of each of two processes.
    """

    def __init__(self, script, count, devices, *arguments, name='train.py', own=((), ())):
        several = [f'--coordinator=127.0.0.1:{free_port()}', f'--num_processes={count}'] if count > 1 else []
        self.each = [
            subprocess.Popen(
                [
                    sys.executable, name, *map(str, arguments), *several, *[f'--process_id={number}'][: len(several)],
                    *own[number],
                ],
                cwd=ROOT, env=environment(script, devices), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for number in range(count)
        ]  # fmt: skip

    def wait(self, timeout=280):
        outputs = [process.communicate(timeout=timeout)[0] for process in self.each]
        return [process.returncode for process in self.each], outputs

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.each:
            process.kill()
            process.communicate(timeout=60)


def run(script, count, devices, *arguments, name='train.py'):
    """The outputs of so many processes that end well; one with one device is what `script` runs."""
    if count == devices == 1:
        done = script(name, *arguments)
        codes, outputs = [done.returncode], [done.stdout + done.stderr]
    else:
        with Processes(script, count, devices, *arguments, name=name) as processes:
            codes, outputs = processes.wait()
    assert codes == [0] * count, '\n'.join(outputs)
    return outputs


def lines(workdir, kind='epoch'):
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    return [row for row in rows if row['kind'] == kind]


def parameters(workdir):
    with checkpoints.Checkpoints(workdir / checkpoints.FOLDER, read_only=True) as kept:
        return jax.device_get(kept.read_model(kept.latest()))


def wait_for(path, text, processes):
    while all(process.poll() is None for process in processes.each):
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.05)
    pytest.fail('ended too early: ' + '\n'.join(processes.wait()[1]))


def assert_same_run(one, other, tolerance):
    here, there = lines(one), lines(other)
    assert len(here) == len(there) > 0
    for a, b in zip(here, there, strict=True):
        assert a['order_digest'] == b['order_digest'] and a['step'] == b['step']
        assert a['test_num_examples'] == b['test_num_examples']
        assert a['train_loss'] == pytest.approx(b['train_loss'], rel=tolerance)
        assert a['test_loss'] == pytest.approx(b['test_loss'], rel=tolerance)
    scale = max(np.abs(x).max() for x in jax.tree.leaves(parameters(one)))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance * scale), parameters(one), parameters(other)
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_are_one(script, tmp_path):
    """2 processes x 2 devices = 1 x 4 = 1 x 1, with the data on the devices."""
    outputs = run(script, 2, 2, *RUN, '--workdir', tmp_path / 'two')
    assert 'on 4 cpu devices of 2 processes' in outputs[0] and 'epoch' not in outputs[1]
    run(script, 1, 4, *RUN, '--workdir', tmp_path / 'four')
    run(script, 1, 1, *RUN, '--workdir', tmp_path / 'one')
    assert_same_run(tmp_path / 'two', tmp_path / 'four', 1e-4)
    assert_same_run(tmp_path / 'two', tmp_path / 'one', 1e-3)


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    """Class folders of PNGs: 96 for training, 30 to test, which no batch divides; one of each cannot be read."""
    from PIL import Image

    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp('photographs')
    for split, count in (('train', 32), ('test', 10)):
        for label in range(3):
            place = folder / split / f'class{label}'
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 60, (40, 44, 3), np.uint8) + 80 * label
                Image.fromarray(pixels.astype(np.uint8)).save(place / f'{number}.png')
        (folder / split / 'class1' / '4.png').write_bytes(b'no image')
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_streamed_batch_normalized_and_evaluated(script, tmp_path, photographs):
    """The same of a folder of images, batch norm in groups of 4; each process reads its own rows."""
    arguments = (
        *STREAMED, '--config.dataset=folder', f'--config.data_dir={photographs}', '--config.num_classes=3',
        '--config.on_bad_image=skip', '--config.crop.kind=random', '--config.crop.short_side=(36,36)',
        '--config.test_crop.kind=center', '--config.test_crop.short_side=(36,36)', '--config.normalize=range',
    )  # fmt: skip
    for name, count, devices in (('two', 2, 2), ('four', 1, 4), ('one', 1, 1)):
        run(script, count, devices, *arguments, '--workdir', tmp_path / name)
        (last,) = lines(tmp_path / name)
        assert last['test_num_examples'] == 29 and last['test_bad_images'] == last['train_bad_images'] == 1
    assert_same_run(tmp_path / 'two', tmp_path / 'four', 1e-3)
    assert_same_run(tmp_path / 'two', tmp_path / 'one', 1e-3)
    results = []
    for name, count in (('two', 2), ('one', 1)):
        output = tmp_path / f'{name}.json'
        arguments = ('--checkpoint', tmp_path / 'one', '--output', output, '--step', 'latest')
        run(script, count, 1, *arguments, name='evaluate.py')
        results.append(json.loads(output.read_text()))
    two, one = results
    assert two['num_examples'] == one['num_examples'] == 30 and two['bad_images'] == 1
    assert {k: two[k] for k in ('wrong_top1', 'wrong_top5')} == {k: one[k] for k in ('wrong_top1', 'wrong_top5')}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sigterm_to_one_saves_all_and_another_number_of_devices_continues(script, tmp_path):
    whole, workdir = tmp_path / 'whole', tmp_path / 'run'
    with Processes(script, 2, 2, *RUN, '--workdir', workdir) as processes:
        wait_for(workdir / 'metrics.jsonl', '"step": 20', processes)
        processes.each[1].send_signal(signal.SIGTERM)  # not the one that writes
        asked = time.monotonic()
        codes, outputs = processes.wait()
    assert codes == [143, 143] and time.monotonic() - asked < 30, '\n'.join(outputs)
    step = int(re.search(r'stopped by SIGTERM; saved at step (\d+)\. The same command resumes', outputs[0])[1])
    again = run(script, 1, 4, *RUN, '--workdir', workdir)
    assert f'resuming at step {step}' in again[0]
    run(script, 1, 1, *RUN, '--workdir', whole)
    assert lines(workdir)[-1]['order_digest'] == lines(whole)[-1]['order_digest']
    assert_same_run(workdir, whole, 1e-3)


@pytest.mark.timeout(600)
@pytest.mark.slow
@pytest.mark.parametrize('killed', [0, 1])
def test_a_killed_process_ends_the_other_with_a_line(script, tmp_path, killed):
    workdir = tmp_path / 'run'
    long = (*RUN, '--config.num_epochs=200', '--config.learning_rates=((200,0.002),)', '--workdir', workdir)
    with Processes(script, 2, 2, *long, '--config.checkpoint_every_steps=10') as processes:
        wait_for(workdir / 'metrics.jsonl', '"step": 60', processes)
        processes.each[killed].kill()
        began = time.monotonic()
        other = processes.each[1 - killed]
        out, _ = other.communicate(timeout=120)
    assert time.monotonic() - began < 60 and other.returncode == 75, out
    assert out.strip().splitlines()[-1].startswith('train.py: error: another process of this run was lost')
    again = run(script, 1, 2, *long, '--config.stop_at_step=130')
    assert re.search(r'resuming at step \d+0: example', again[0])


def test_hosts_make_the_rows_of_their_own():
    """The batches of 1, 2 and 4 hosts are the same, in the same order, training and test."""

    source = datasets.open_source('synthetic', 'train', '', 8, 1, 10)
    form = loader.Form(8, 1, 'pad')

    def order(start, stop):
        return loader.example_order(start, stop, len(source), seed=3)

    def whole(hosts, make):
        parts = [[batch['index'] for batch in make((host, hosts))] for host in range(hosts)]
        return [np.concatenate(rows) for rows in zip(*parts, strict=True)]

    for make in (
        lambda part: loader.stream(source, form, order, 3, 8, part=part),
        lambda part: loader.test_batches(source, form, 8, part=part),
    ):
        one = whole(1, make)
        for hosts in (2, 4):
            for here, there in zip(whole(hosts, make), one, strict=True):
                np.testing.assert_array_equal(here, there)


def test_what_names_the_processes(monkeypatch):
    for key in ('SLURM_STEP_NODELIST', 'OMPI_MCA_orte_hnp_uri', 'SLURM_NTASKS'):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    assert not distributed.is_one_of_several(None, None, None)
    assert distributed.is_one_of_several('host:1', 2, 1) and not distributed.is_one_of_several('host:1', 1, 0)
    monkeypatch.setenv('SLURM_NTASKS', '4')
    assert distributed.launcher() == ''  # the batch script around srun
    monkeypatch.setenv('SLURM_STEP_NODELIST', 'node[1-4]')
    assert distributed.launcher() == 'Slurm' and distributed.is_one_of_several(None, None, None)
    for given, says in (
        (('host:1', 2, None), 'must be set together'),
        (('host', 2, 0), 'must be HOST:PORT of process 0'),
        (('host:99999', 2, 0), 'must be HOST:PORT of process 0'),
        (('host:1', 2, 2), '--process_id must be 0 to 1 with .*, not 2'),
    ):
        with pytest.raises(UserError, match=says):
            distributed.is_one_of_several(*given)


def test_large_parameters_are_sharded_over_the_model_axis(eight_devices):
    grid = mesh.create(16, model=2)
    assert dict(grid.shape) == {'data': 4, 'model': 2}
    shapes = {'fc6': (7, 7, 512, 4096), 'fc8': (4096, 1000), 'conv': (3, 3, 512, 512), 'bias': (4096,)}
    state = {name: jax.ShapeDtypeStruct(shape, 'float32') for name, shape in shapes.items()}
    shardings = mesh.state_sharding(grid, state)
    assert [name for name, sharding in shardings.items() if not sharding.is_fully_replicated] == ['fc6', 'fc8']
    assert shardings['fc6'].shard_shape(shapes['fc6']) == (7, 7, 512, 2048)
    with pytest.raises(UserError, match='mesh.model=3 does not divide the 8 devices'):
        mesh.create(16, model=3)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sharded_parameters_train_like_replicated_ones(script, tmp_path):
    """AlexNet's fully connected layers, replicated on 1 x 4 devices, sharded on 2 x 2, or on two processes."""
    arguments = (
        '--config', 'configs/alexnet.py:cifar10,option.dropout=0.0,epochs=1', '--config.dataset=synthetic',
        '--config.batch_size=8', '--config.stop_at_step=4', '--config.log_every_steps=1', '--config.normalize=range',
    )  # fmt: skip
    run(script, 1, 4, *arguments, '--workdir', tmp_path / 'whole')
    cut = run(script, 1, 4, *arguments, '--workdir', tmp_path / 'cut', '--config.mesh.model=2')
    assert 'are sharded over 2 devices' in cut[0]
    run(script, 2, 2, *arguments, '--workdir', tmp_path / 'two', '--config.mesh.model=2')
    for name in ('cut', 'two'):
        for a, b in zip(lines(tmp_path / 'whole', 'train'), lines(tmp_path / name, 'train'), strict=True):
            assert a['loss'] == pytest.approx(b['loss'], rel=1e-4)
        whole, other = parameters(tmp_path / 'whole'), parameters(tmp_path / name)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4 * np.abs(x).max()), whole, other)
    folder = tmp_path / 'two' / checkpoints.FOLDER
    files = [path for path in (folder / '4/model/ocdbt.process_1').rglob('*') if path.is_file()]
    damage(max(files, key=lambda path: path.stat().st_size))  # what the second process wrote
    with pytest.raises(UserError, match='4 is damaged: params/.* is not what was saved|4 cannot be read'):
        parameters(tmp_path / 'two')


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_several_processes_fall_back_to_the_same_checkpoint(script, tmp_path):
    arguments = (*RUN, '--config.checkpoint_every_steps=10', '--workdir', tmp_path / 'run')
    run(script, 2, 1, *arguments, '--config.stop_at_step=20')
    files = [path for path in (tmp_path / 'run' / checkpoints.FOLDER / '20/model').rglob('*') if path.is_file()]
    damage(max(files, key=lambda path: path.stat().st_size))
    outputs = run(script, 2, 1, *arguments)
    assert 'resuming at step 10' in outputs[0] and 'resuming from step 10' in outputs[0]
    assert 'damaged' not in outputs[1]
    run(script, 1, 1, *RUN, '--workdir', tmp_path / 'whole')
    assert_same_run(tmp_path / 'run', tmp_path / 'whole', 1e-3)


# What differs, and what is lost


def entry(problem='', **facts):
    return {'problem': problem, 'facts': facts}


@pytest.mark.parametrize(
    'entries, says',
    [
        ([entry(seed='1')] * 3, None),
        ([entry(seed='1'), entry(seed='1'), entry(seed='2')], 'process 2 differs from process 0: seed is 2 there, and'),
        ([entry(seed='1', a='1'), entry(seed='2')], r'seed is 2 there, and 1 in process 0 \(and 1 more\)'),
        ([entry(), entry(jax='0.9')], 'jax is 0.9 there, and missing in process 0'),
        ([entry(seed='1'), entry('no such folder')], 'process 1 of this run could not start: no such folder'),
        ([entry('a full disk'), entry(seed='2')], 'process 0 of this run could not start: a full disk'),
    ],
)
def test_the_first_process_that_differs_is_named(entries, says):
    difference = distributed._difference(entries)
    assert difference is None if says is None else re.search(says, difference)


def test_long_values_differ_by_their_digests():
    one, other = distributed._short('x' * 1000), distributed._short('x' * 999 + 'y')
    assert one != other and len(one) < 100 and distributed._short('short') == 'short'


def test_a_taken_port_is_refused_before_jax_tries_it():
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f'port {port} of --coordinator=here:{port} cannot be used here: address'):
            distributed._try_port(f'here:{port}')
    distributed._try_port(f'here:{free_port()}')


@pytest.mark.slow
@pytest.mark.parametrize('what', ['data', 'key'])
def test_processes_that_differ_end_with_a_line(script, tmp_path, photographs, what):
    other = shutil.copytree(photographs, tmp_path / 'other')
    one, two = other / 'train/class0/0.png', other / 'train/class0/1.png'  # of one class
    one.rename(other / 'aside')
    two.rename(one)
    (other / 'aside').rename(two)
    arguments = (
        *STREAMED, '--config.dataset=folder', '--config.num_classes=3', '--config.on_bad_image=skip',
        '--config.crop.kind=random', '--config.crop.short_side=(36,36)', '--config.test_crop.kind=center',
        '--config.test_crop.short_side=(36,36)', '--config.normalize=range', '--workdir', tmp_path / 'run',
    )  # fmt: skip
    folders, seeds = ((photographs, other), (0, 0)) if what == 'data' else ((photographs, photographs), (0, 1))
    own = [[f'--config.data_dir={folders[n]}', f'--config.seed={seeds[n]}'] for n in range(2)]
    with Processes(script, 2, 1, *arguments, own=own) as processes:
        codes, outputs = processes.wait()
    name = 'of the training data, the digest of sizes is' if what == 'data' else '--config.seed is 1 there, and 0 in'
    for output in outputs:
        (line,) = output.splitlines()
        assert re.search(f'error: process 1 differs from process 0: {name}.*need the same command, code and data', line)
    assert codes == [2, 2] and not (tmp_path / 'run').exists()
