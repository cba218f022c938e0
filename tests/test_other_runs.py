"""What makes another run and what does not: changes of a config between two calls of the same workdir."""

import json

import jax
import numpy as np
import pytest
from conftest import digits
from PIL import Image

from configs import listing
from runtime.errors import UserError
from training import loop, preflight
from training.log import read
from training.workdir import OtherRun, changes, claimed, write_config


def begun(tmp_path, config, finished=False):
    """A workdir of a run of a config, but for its checkpoints."""
    workdir = tmp_path / 'run'
    workdir.mkdir()
    write_config(workdir, config)
    if finished:
        (workdir / 'metrics.jsonl').write_text(json.dumps({'kind': 'finished', 'step': 9, 'time': {'total': 1}}) + '\n')
    return workdir


def test_before_the_first_step_no_key_makes_another_run(tmp_path):
    workdir = begun(tmp_path, digits())
    (workdir / 'statistics.npz').write_bytes(b'measured')
    with claimed(workdir, digits(seed=3, loss='penalty'), has_checkpoint=False) as later:
        assert later == {} and json.loads((workdir / 'config.json').read_text())['seed'] == 3
    assert (workdir / 'statistics.npz').exists()
    with claimed(workdir, digits(image_size=28), has_checkpoint=False):  # what was measured is of other images
        assert not (workdir / 'statistics.npz').exists()
    with pytest.raises(OtherRun, match='seed is 0 there and 3 here; pass another --workdir, or the old value'):
        changes(workdir, digits(image_size=28, seed=3))


def test_a_key_that_an_older_version_did_not_write_has_the_bases_value(tmp_path):
    workdir = begun(tmp_path, digits())
    values = json.loads((workdir / 'config.json').read_text())
    del values['adam'], values['mesh'], values['colour']['flip'], values['average']
    (workdir / 'config.json').write_text(json.dumps(values))
    assert changes(workdir, digits()) == {}
    other = digits()
    other.colour.flip = True
    with pytest.raises(OtherRun, match='colour.flip is False there and True here'):
        changes(workdir, other)


FREE = {'test_batch_size': 7, 'on_bad_image': 'skip', 'batch_size': 16, 'workers': 2, 'stop_at_step': 5}


@pytest.mark.parametrize('key', FREE)
@pytest.mark.parametrize('finished', [False, True])
def test_what_changes_nothing_that_is_learned_is_free(tmp_path, key, finished):
    assert changes(begun(tmp_path, digits(), finished), digits(**{key: FREE[key]})) == {}


@pytest.mark.parametrize(
    'network, later, refused',
    [
        ({}, {'accumulate': 4}, False),
        ({'batch_norm': True}, {'accumulate': 4}, True),  # a part of eight images is normalized by itself
        ({'batch_norm': True, 'group_size': 8}, {'accumulate': 4}, False),
        ({'batch_norm': True}, {'accumulate': 2, 'batch_size': 64}, False),
    ],
)
def test_parts_of_a_batch_make_another_run_where_batch_norm_sees_them(tmp_path, network, later, refused):
    workdir = begun(tmp_path, digits(architecture_options=network))
    here = digits(architecture_options=network, **later)
    if refused:
        with pytest.raises(OtherRun, match='accumulate is 1 there and 4 here'):
            changes(workdir, here)
    else:
        assert changes(workdir, here) == {}


def test_keys_of_future_steps_may_change_until_the_end(tmp_path):
    there, here = digits(), digits(num_epochs=40.0, learning_rates=((40, 0.1),))
    workdir = begun(tmp_path, there)
    assert changes(workdir, here) == {
        'num_epochs': (30.0, 40.0),
        'learning_rates': ([[20, 0.02], [7, 0.004], [3, 0.0008]], [[40, 0.1]]),
    }
    (workdir / 'metrics.jsonl').write_text(json.dumps({'kind': 'finished', 'step': 9, 'time': {'total': 1}}) + '\n')
    with pytest.raises(OtherRun, match='contains a finished run: num_epochs is 30.0 there and 40.0 here; pass another'):
        changes(workdir, here)


@pytest.mark.parametrize(
    'there, here',
    [
        ({'schedule': 'plateau'}, {'schedule': 'cosine'}),  # the state of a plateau is in every checkpoint
        ({}, {'warmup.learning_rate': 0.1}),
        ({'average': 'uniform'}, {'average': 'uniform', 'num_epochs': 40.0}),  # it began at a part of the length
        ({}, {'momentum': 0.5}),
        ({}, {'architecture_options.activation': 'tanh'}),
    ],
)  # fmt: skip
def test_what_the_past_hangs_on_makes_another_run(tmp_path, there, here):
    def config(values):
        made = digits()
        for key, value in values.items():
            folder, _, name = key.rpartition('.')
            (made[folder] if folder else made)[name] = value
        return made

    workdir = begun(tmp_path, config(there))
    with pytest.raises(OtherRun):
        changes(workdir, config(here))


def test_a_value_that_neither_run_reads_is_not_a_difference(tmp_path):
    workdir = begun(tmp_path, digits(learning_rate=7.0))  # recorded, and passed over, by an earlier version
    assert changes(workdir, digits()) == {}
    with pytest.raises(OtherRun, match='optimizer'):
        changes(workdir, digits(optimizer='adam', momentum=0.3))


@pytest.mark.parametrize('name', ['lenet5_digits', 'googlenet', 'resnet50', 'resnet20'])
def test_the_message_names_what_was_typed(tmp_path, name):
    """`:epochs=60` changes half a dozen keys that the user did not type."""
    workdir = begun(tmp_path, listing.load(f'{name}:epochs=40'), finished=True)
    here = listing.load(f'{name}:epochs=60')
    with pytest.raises(OtherRun) as error:
        changes(workdir, here)
    told = error.value.naming(dict.fromkeys(error.value.differences, ':epochs=60'))
    assert 'num_epochs is 40.0 there and 60.0 here (:epochs=60); pass another --workdir' in str(told)
    here.seed = 3  # keys that affect past steps come first
    with pytest.raises(OtherRun) as error:
        changes(workdir, here)
    told = error.value.naming(dict.fromkeys(error.value.differences, ':epochs=60') | {'seed': '--config.seed=3'})
    if name != 'resnet50':  # whose patience, in every checkpoint, is one more
        assert 'contains another run: seed is 0 there and 3 here (--config.seed=3)' in str(told)


def rates(rows):
    return {row['step']: row['learning_rate'] for row in rows if row['kind'] == 'train'}


def test_the_rate_is_changed_in_the_middle_and_logged_once(tmp_path, monkeypatch):
    workdir, old, new = tmp_path / 'run', ((30, 0.02),), ((30, 0.005),)
    common = {'log_every_steps': 5, 'num_epochs': 30.0}
    loop.train(digits(learning_rates=old, stop_at_step=20, **common), workdir)

    def killed(*_):
        raise MemoryError

    with monkeypatch.context() as patch:  # after the decision, before the next checkpoint
        patch.setattr(loop.Loop, 'save', killed)
        with pytest.raises(MemoryError):
            loop.train(digits(learning_rates=new, stop_at_step=30, **common), workdir)
    assert json.loads((workdir / 'config.json').read_text())['learning_rates'] == [[30, 0.005]]
    loop.train(digits(learning_rates=new, stop_at_step=30, **common), workdir)
    loop.train(digits(learning_rates=new, stop_at_step=35, **common), workdir)
    rows = read(workdir)
    expected = {step: 0.02 if step <= 20 else 0.005 for step in range(5, 36, 5)}
    assert rates(rows) == pytest.approx(expected, rel=1e-6)
    (decision,) = (row for row in rows if row['kind'] == 'decision')
    assert (decision['step'], decision['by_hand']) == (20, 'learning_rates')
    assert decision['learning_rate'] == pytest.approx(0.005)
    assert decision['decision'] == 'learning_rates is [[30, 0.005]] from here on, set by the user; it was [[30, 0.02]]'
    with pytest.raises(UserError, match=r'num_epochs=0\.5 ends at step 23, and the run is at step 35'):
        loop.train(digits(learning_rates=((0.5, 0.1),), **common | {'num_epochs': 0.5}), workdir)


def test_after_a_nan_loss_the_run_continues_with_a_lower_rate(tmp_path):
    """The advice of the message, to the letter."""
    workdir = tmp_path / 'run'
    common = {'checkpoint_every_steps': 4, 'log_every_steps': 4, 'num_epochs': 1.0, 'stop_at_step': 12}
    loop.train(digits(learning_rates=((1, 0.02),), **common | {'stop_at_step': 4}), workdir)
    with pytest.raises(
        UserError, match=r'good checkpoint is step 4 .* Lower --config\.learning_rates to resume from there'
    ):
        loop.train(digits(learning_rates=((1, 1e12),), **common), workdir)
    loop.train(digits(learning_rates=((1, 0.01),), **common), workdir)
    rows = read(workdir)
    assert rates(rows) == pytest.approx({4: 0.02, 8: 0.01, 12: 0.01})
    assert all(np.isfinite(row['loss']) for row in rows if row['kind'] == 'train')


@pytest.mark.slow
def test_a_broken_image_is_skipped_as_the_message_says(tmp_path):
    """Before the first step, and in the middle of a run."""
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for name in 'ab':
            folder = tmp_path / 'data' / split / name
            folder.mkdir(parents=True)
            for number in range(8):
                Image.fromarray(rng.integers(0, 256, (32, 32), np.uint8)).save(folder / f'{number}.png')
    broken = tmp_path / 'data' / 'train' / 'b' / '3.png'
    whole = broken.read_bytes()
    common = {'dataset': 'folder', 'data_dir': str(tmp_path / 'data'), 'num_classes': 2, 'batch_size': 8}
    common |= {'num_epochs': 2.0, 'learning_rates': ((2, 0.01),), 'log_every_steps': 1}
    for workdir, steps in ((tmp_path / 'first', 0), (tmp_path / 'middle', 2)):
        broken.write_bytes(whole)
        if steps:
            loop.train(digits(stop_at_step=steps, **common), workdir)
        broken.write_bytes(b'no image')
        with pytest.raises(
            UserError,
            match=r'(3\.png cannot be decoded|the sizes and the images differ).*pass --config\.on_bad_image=skip',
        ):
            loop.train(digits(**common), workdir)
        last = loop.train(digits(on_bad_image='skip', **common), workdir)
        assert last['epoch'] == 2 and last['train_bad_images'] == 1
        preflight_ok = changes(workdir, digits(on_bad_image='skip', **common))
        assert preflight_ok == {}
    jax.clear_caches()
    assert preflight.folders.contains_run_of(tmp_path / 'first', digits(on_bad_image='stop', **common))
