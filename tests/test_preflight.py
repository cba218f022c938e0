"""`train.py --check`, and the memory that it reckons with."""

import re
import resource
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import digits
from PIL import Image

from configs import series
from runtime import mesh
from runtime.errors import UserError
from training import memory, preflight
from training.run import Run


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(preflight, 'SECONDS', 0.05)


def folder_of_images(root):
    """Class folders of PNGs, 20 for each of 3 classes and either split, and their config."""
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for label in range(3):
            (root / split / f'class{label}').mkdir(parents=True)
            for i in range(20):
                pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / f'class{label}' / f'{i}.png')
    return digits(dataset='folder', data_dir=str(root), num_classes=3, normalize='mean_image')


def lines(config, workdir):
    said = []
    preflight.check_run(config, workdir, said.append)
    return '\n'.join(said)


@pytest.mark.slow  # three seconds a measurement
def test_check_says_what_a_run_will_take_and_writes_nothing(script, tmp_path):
    workdir = tmp_path / 'run'
    done = script('train.py', '--config', 'configs/lenet5_digits.py', '--check', '--workdir', workdir)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []
    out = done.stdout
    assert re.search(r'^devices: 1 .*, 1 process$', out, re.MULTILINE)
    assert 'data: digits, train: 1,437 images, 8 read' in out and 'data: digits, test: 360 images, 8 read' in out
    assert re.search(r'memory, each device: [\d.]+ MB in training .*; available: [\d.,]+ [MG]B', out)
    assert re.search(r'network: [\d,]+ images/s in training, [\d,]+ images/s in a test', out)
    assert 'input: the data is stored on the device' in out
    assert re.search(r'time: an epoch \d+:\d\d .*, the run of 1,348 steps \d+:\d\d', out)  # 30 epochs of 1,437, by 32
    assert out.strip().endswith('limit: the network')


def test_check_without_its_data_ends_in_a_line(script, tmp_path):
    missing = ('--config', 'configs/lenet5.py', f'--config.data_dir={tmp_path / "none"}')
    done = script('train.py', *missing, '--check', '--workdir', tmp_path / 'run')
    assert done.returncode == 2 and list(tmp_path.iterdir()) == []
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith('train.py: error: ') and str(tmp_path / 'none') in line


def test_what_does_not_fit_is_refused_before_it_runs(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(preflight, '_network_rates', lambda *_: pytest.fail('it ran'))
    # The data set alone, 1,437 images of 32x32, is 1.5 MB; a test of 500 images is larger than a step of 32.
    for there, what in (
        (1e6, 'a training step needs .*--config.batch_size below 32, or'),
        (2e7, 'a test needs .*test_batch_size below 500$'),
    ):
        monkeypatch.setattr(memory, 'available', lambda there=there: there)
        with pytest.raises(UserError, match=f'does not fit in memory: {what}'):
            preflight.check_run(digits(), tmp_path / 'run')
    assert list(tmp_path.iterdir()) == []


def test_what_is_reckoned_grows_as_the_batch():
    needed = []
    for size in (256, 512):
        run = Run(digits(batch_size=size))
        needed.append(memory.of_program(run.compiled(None, run.abstract_state()).advance))
    # What one image needs in the step at least: the outputs of both convolutions, in float32.
    assert needed[1] - needed[0] > 256 * 4 * (28 * 28 * 6 + 10 * 10 * 16)


def test_streamed_images_are_timed_and_statistics_estimated(quick, tmp_path):
    config, workdir = folder_of_images(tmp_path / 'data'), tmp_path / 'run'
    out = lines(config, workdir)
    assert 'data: folder, train: 60 images, 8 read\n' in out and 'prefetched batches' in out
    assert re.search(r'input: [\d,]+ images/s from this host', out)
    assert 'before training: measuring the images' in out and re.search(r'limit: the (input|network), [\d.]+ ti', out)
    assert not workdir.exists()


def test_images_that_cannot_be_read(quick, tmp_path):
    config = folder_of_images(tmp_path / 'data')
    broken = sorted((tmp_path / 'data' / 'test' / 'class0').iterdir())
    for path in broken:
        path.write_bytes(b'no image')
    with pytest.raises(UserError, match='class0/0.png cannot be decoded'):
        preflight.check_run(config, tmp_path / 'run')
    config.on_bad_image = 'skip'  # of 8 among 60, 0 8 16 25 33 42 50 59, three are in the first class
    assert 'test: 60 images, 8 read, 3 of them broken' in lines(config, tmp_path / 'run')
    for path in (tmp_path / 'data' / 'test').glob('*/*'):
        path.write_bytes(b'no image')
    with pytest.raises(UserError, match="none of 8 images of the split 'test' can be read"):
        preflight.check_run(config, tmp_path / 'run')


def test_a_workdir_of_another_run_is_refused_and_left(quick, digits_run):
    config, workdir = digits_run
    before = {path: path.stat().st_mtime_ns for path in sorted(workdir.rglob('*'))}
    assert 'limit: the network' in lines(config, workdir)
    other = config.copy_and_resolve_references()
    other.seed = 1
    with pytest.raises(UserError, match='contains another run'):
        preflight.check_run(other, workdir)
    assert {path: path.stat().st_mtime_ns for path in sorted(workdir.rglob('*'))} == before


@pytest.mark.slow
def test_a_series_member_by_member(quick, tmp_path):
    pair = series.create(first=digits(), second=digits(seed=1, init_from='first'))
    out = lines(pair, tmp_path / 'series')  # the second starts from weights that are not there yet
    assert '1 of 2: first' in out and '2 of 2: second' in out and out.count('limit: ') == 2
    assert re.search(r'\nall 2: \d+:\d\d$', out) and not (tmp_path / 'series').exists()
    pair.members.first.batch_size = 0
    with pytest.raises(UserError, match='first: batch_size must be above 0'):
        preflight.check_run(pair, tmp_path / 'series')


def test_a_program_s_memory_is_of_each_device_and_counts_donated_arguments_once(eight_devices):
    grid = mesh.create(8)
    vector = jax.ShapeDtypeStruct((8000,), jnp.float32, sharding=mesh.batch_sharding(grid))
    kept = jax.jit(lambda x: x + 1).lower(vector).compile()
    donated = jax.jit(lambda x: x + 1, donate_argnums=0).lower(vector).compile()
    assert memory.of_program(kept) == 2 * 4000 and memory.of_program(donated) == 4000


@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='only Linux tells what a process holds now')
def test_peak_memory_is_at_least_what_is_held_now():
    ballast = np.ones(10_000_000)
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    number, whose = memory.peak()
    assert whose == 'process' and ballast.nbytes < number
    assert number > 0.95 * pages * resource.getpagesize()  # the kernel counts in lots


def test_sizes_as_text():
    assert [memory.text(n) for n in (1_234_567, 999e6, 1.5e9, 81e9)] == ['1.2 MB', '999.0 MB', '1.50 GB', '81.00 GB']
