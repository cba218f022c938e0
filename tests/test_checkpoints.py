import json
import os
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import epoch_row
from jax.sharding import NamedSharding, PartitionSpec

from runtime.errors import UserError
from training import checkpoints, log
from training.checkpoints import Checkpoints, Damaged, locate
from training.clock import Clock
from training.step import TrainState, zero_totals

INFO = {'architecture': 'lenet5', 'architecture_options': {}, 'num_classes': 10, 'clock': {}}


def state_at(step, width=3):
    return TrainState(
        step=jnp.int32(step),
        params={'w': jnp.arange(float(width)) + step},
        batch_stats={},
        opt_state=({'m': jnp.ones(width)}, ()),
        order_digest=jnp.uint32(2**32 - 1),
        window=zero_totals(),
        epoch=zero_totals(),
        controller={},
        average={},
    )


@pytest.fixture
def workdir(tmp_path):
    """Checkpoints at steps 1 to 5; the smallest error is at 2, and again at 3."""
    with Checkpoints(tmp_path / 'checkpoints') as kept:
        for step, error in ((1, 9.0), (2, 2.5), (3, 2.5), (4, None), (5, 4.0)):
            kept.save(state_at(step), INFO, error)
    return tmp_path


def test_the_latest_two_and_the_best_are_kept(workdir):
    with Checkpoints(workdir / 'checkpoints', read_only=True) as kept:
        assert kept.steps() == [3, 4, 5]
        assert kept.latest() == 5 and kept.best() == 3
        assert kept.info(3) == INFO


def test_a_state_is_restored_bit_for_bit(workdir):
    with Checkpoints(workdir / 'checkpoints', read_only=True) as kept:
        restored = kept.restore(state_at(0), 5)
        chex.assert_trees_all_equal(restored, state_at(5))
        assert restored.order_digest.dtype == jnp.uint32
        model = kept.restore_model(state_at(0).variables, 3)
        chex.assert_trees_all_equal(model['params'], state_at(3).params)


def test_saving_a_step_again_replaces_it(workdir):
    with Checkpoints(workdir / 'checkpoints') as kept:
        kept.save(state_at(5), INFO | {'again': True}, 1.0)
        kept.wait()
        assert kept.info(5)['again'] and kept.best() == 5


def test_a_checkpoint_of_another_network_is_refused(workdir):
    with Checkpoints(workdir / 'checkpoints', read_only=True) as kept:
        with pytest.raises(UserError, match=r'params/w is \(3,\) in the checkpoint and \(4,\)'):
            kept.restore(state_at(0, width=4), 5)
        other = state_at(0).replace(params={'v': jnp.ones(3)})
        with pytest.raises(UserError, match='does not fit this config'):
            kept.restore(other, 5)


@pytest.mark.parametrize('damage', ['data', 'item', 'info'])
def test_a_truncated_checkpoint_is_named(workdir, damage):
    folder = workdir / 'checkpoints' / '5'
    if damage == 'data':
        for path in (folder / 'model').rglob('*'):
            if path.is_file() and path.stat().st_size > 60:
                path.write_bytes(path.read_bytes()[:50])
    elif damage == 'item':
        for path in sorted((folder / 'model').rglob('*'), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (folder / 'model').rmdir()
    else:
        for path in (folder / 'info').iterdir():
            path.write_text('{"architecture"')
    with Checkpoints(workdir / 'checkpoints', read_only=True) as kept:
        with pytest.raises(UserError, match=r'checkpoints/5 cannot be read.*to resume from step 4'):
            kept.info(5)
            kept.restore(state_at(0), 5)
        chex.assert_trees_all_equal(kept.restore(state_at(0), 3), state_at(3))


def test_a_checkpoint_is_found_by_any_of_its_names(workdir, tmp_path):
    folder = workdir / 'checkpoints'
    assert locate(workdir) == (folder, None) == locate(folder)
    assert locate(folder / '3') == (folder, 3)
    with pytest.raises(UserError, match='does not exist'):
        locate(tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='contains no checkpoint'):
        locate(tmp_path / 'empty')


def test_the_log_forgets_what_was_lost(tmp_path):
    first = log.RunLog(tmp_path)
    for step in (10, 20, 30):
        first.write('train', step, {'total': step / 10}, loss=1 / step)
    first.close()
    path = tmp_path / log.NAME
    path.write_text(path.read_text() + '{"kind": "train", "st')  # killed while it wrote
    second = log.RunLog(tmp_path, log.read(tmp_path), resume_step=20, time={'total': 5.0})
    second.write('epoch', 30, {'total': 6.0}, **epoch_row(3, 5.0, 3.0))
    second.write('epoch', 40, {'total': 7.0}, **epoch_row(4, 5.0, 3.0))
    second.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row['kind'], row['step']) for row in rows] == [
        ('train', 10), ('train', 20), ('resume', 20), ('epoch', 30), ('epoch', 40),
    ]  # fmt: skip
    assert rows == second.rows and second.best_epoch()['step'] == 40
    assert list(tmp_path.glob('events.out.tfevents*'))


def test_the_clock_sums_restarts():
    clock = Clock(started=0)  # long ago: all of it start-up
    clock.start_up_ends()
    with clock.time('step'):
        pass
    saved = dict.fromkeys(Clock.PURPOSES, 0.0) | {'step': 10.0, 'lost to restarts': 2.0}
    before = clock.total()
    clock.resume(saved, last_total=20.0)  # it was last heard of 8 s after that checkpoint
    seconds = clock.seconds()
    assert seconds['lost to restarts'] == pytest.approx(10)
    assert seconds['step'] == pytest.approx(10, abs=0.1)
    assert sum(seconds.values()) == pytest.approx(clock.total(), abs=0.1)
    assert clock.total() == pytest.approx(before + 20, abs=0.1)


def flip(path, rng):
    """Flip one random bit of a file."""
    data = bytearray(path.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(data)


def files(folder):
    return sorted(path for path in folder.rglob('*') if path.is_file() and path.stat().st_size)


@pytest.mark.parametrize('seed', range(4))
def test_a_damaged_checkpoint_is_never_read_as_another_one(tmp_path, seed):
    """Bits are flipped and files truncated: either what was saved is read, or a one-line error names the folder."""
    rng = np.random.default_rng(seed)
    with Checkpoints(tmp_path / 'c') as kept:
        kept.save(state_at(7, width=3000), INFO, 4.0)
    wanted = state_at(7, width=3000)
    for number in range(15):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / 'c', folder)
        path = rng.choice(files(folder))
        if number % 3:
            flip(path, rng)
        else:
            path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])
        try:
            with Checkpoints(folder, read_only=True) as kept:
                if kept.latest() is None:
                    continue
                assert kept.info(7) == INFO
                chex.assert_trees_all_equal(kept.restore(state_at(0, width=3000), 7), wanted)
                chex.assert_trees_all_equal(kept.read_model(7)['params'], wanted.params)
        except UserError as error:
            assert str(folder) in str(error) and '\n' not in str(error)


def test_a_changed_array_is_named(workdir):
    folder = workdir / 'checkpoints'
    with Checkpoints(workdir / 'other') as kept:  # a valid checkpoint, but not that of the digests
        kept.save(state_at(5).replace(params={'w': jnp.arange(3.0) + 4}), INFO, 4.0)
    shutil.rmtree(folder / '5/model')
    shutil.copytree(workdir / 'other/5/model', folder / '5/model')
    with Checkpoints(folder, read_only=True) as kept:
        says = r'checkpoints/5 is damaged: params/w is not what was saved. Pass --step=.*to resume from step 4'
        for read in (kept.read_model, kept.verify, lambda step: kept.restore(state_at(0), step)):
            with pytest.raises(Damaged, match=says):
                read(5)
        assert kept.newest_undamaged() == 4


def test_damaged_checkpoints_are_set_aside(workdir):
    for step in (4, 5):
        path = max(files(workdir / f'checkpoints/{step}/training'), key=lambda path: path.stat().st_size)
        path.write_bytes(path.read_bytes()[:30])
    with Checkpoints(workdir / 'checkpoints') as kept:
        step = kept.newest_undamaged()
        lines = kept.set_aside_after(step)
        assert step == 3 and kept.steps() == [3] and len(lines) == 2
        assert 'checkpoints/4.damaged; resuming from step 3' in lines[0]
        kept.save(state_at(4), INFO, 9.0)
        kept.wait()
        assert kept.steps() == [3, 4] and kept.set_aside_after(4) == []
        with pytest.raises(UserError, match='another process has just trained'):
            kept.set_aside_after(3)
    assert (workdir / 'checkpoints/5.damaged').is_dir() and locate(workdir)


@pytest.mark.parametrize('file', ['info/metadata', 'metrics/metrics', 'model/_METADATA', 'digests/process_0.json'])
def test_files_that_are_not_regular_or_huge_are_refused(workdir, file):
    path = workdir / 'checkpoints' / '5' / file
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=f'{path} is a FIFO, not a regular file'):
        Checkpoints(workdir / 'checkpoints', read_only=True)
    path.unlink()
    path.touch()
    os.truncate(path, 6 << 30)
    if not file.startswith('model'):
        with pytest.raises(UserError, match=f'{path} has 6,442,450,944 bytes'):
            Checkpoints(workdir / 'checkpoints', read_only=True)


def test_damaged_metadata_of_orbax_are_a_line(workdir):
    path = workdir / 'checkpoints/5/_CHECKPOINT_METADATA'
    path.write_text(path.read_text().replace('_timestamp', '_Timestamp'))
    with pytest.raises(UserError, match='checkpoints is not a folder of checkpoints that can be read: '):
        Checkpoints(workdir / 'checkpoints')


def test_a_checkpoint_without_digests_is_read(workdir):
    """An older version wrote it."""
    folder = workdir / 'checkpoints/5'
    shutil.rmtree(folder / 'digests')
    with Checkpoints(workdir / 'checkpoints', read_only=True) as kept:
        with pytest.raises(Damaged, match='the digests of 0 processes are there, and 1 wrote it'):
            kept.info(5)
        (folder / 'info/metadata').write_text(json.dumps(INFO))
        assert kept.info(5) == INFO and kept.newest_undamaged() == 5
        chex.assert_trees_all_equal(kept.restore(state_at(0), 5), state_at(5))


def test_arrays_of_any_type_and_sharding_have_digests(tmp_path):
    """Saved from two devices, read to one and the other way round; bfloat16 and scalars, too."""
    mesh = jax.sharding.Mesh(jax.devices()[:2], 'x')
    split, copied = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (['x'], []))
    model = {'params': {'a': jnp.arange(6.0).reshape(2, 3), 'b': jnp.ones(4, jnp.bfloat16), 'c': jnp.float32(3)}}
    placed = {'params': jax.device_put(model['params'], {'a': split, 'b': copied, 'c': copied})}
    for number, (saved, read) in enumerate([(model, placed), (placed, model)]):
        with Checkpoints(tmp_path / str(number)) as kept:
            kept.save_model(saved, INFO)
            kept.wait()
            digests = json.loads((tmp_path / str(number) / '0/digests/process_0.json').read_text())['arrays']['model']
            assert len(digests['params/a']['parts']) == 1 + number and len(digests['params/c']['parts']) == 1
            chex.assert_trees_all_equal(kept.restore_model(read, 0), model)


def test_digests_of_one_process_are_written_and_read_by_their_handler(tmp_path):
    args = checkpoints._DigestArgs({'model': {'w': np.arange(6.0).reshape(2, 3)}}, [{'a': 1}, None])
    handler = checkpoints._DigestHandler()
    assert handler.restore(tmp_path) == []
    handler.save(tmp_path, args)
    (file,) = handler.restore(tmp_path)
    digest = file.arrays['model']['w']
    assert digest.fits(np.arange(6.0).reshape(2, 3)) and not digest.fits(np.arange(1, 7.0).reshape(2, 3))
