"""Your own photographs: the split of a single folder, the variants for them, and fine-tuning from a checkpoint."""

import json
import types

import numpy as np
import pytest
from PIL import Image

from configs import base, listing
from input_pipeline import datasets, sources
from runtime import stored_config
from runtime.errors import UserError
from training import console, finetune, init_from, unread

CLASSES = {'cat': 10, 'dog': 5, 'eel': 2, 'fly': 1}


def pictures(folder, classes=CLASSES):
    """A folder of class folders with small images."""
    draws = np.random.default_rng(0)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(draws.integers(0, 256, (9, 8, 3), np.uint8)).save(folder / name / f'{number}.png')
    return folder


def split(folder, part, fraction, seed=0):
    source = datasets.open_source('folder', part, str(folder), val_fraction=fraction, val_seed=seed)
    return [source[number].name for number in range(len(source))], source


@pytest.mark.parametrize('below', ['', 'train'])
def test_a_single_folder_is_divided(tmp_path, below):
    pictures(tmp_path / below)
    train, source = split(tmp_path, 'train', 0.2)
    held_out, test_source = split(tmp_path, 'val', 0.2)
    assert not {*train} & {*held_out} and len(train) + len(held_out) == 18
    assert np.bincount(test_source.labels, minlength=4).tolist() == [2, 1, 1, 0]  # one of two, none of one
    assert source.class_names == test_source.class_names == ('cat', 'dog', 'eel', 'fly')
    assert split(tmp_path, 'train', 0.2)[0] == train
    assert {*held_out} < {*split(tmp_path, 'test', 0.5)[0]}  # the same order of names
    assert {*held_out} != {*split(tmp_path, 'test', 0.2, seed=1)[0]}


def test_the_split_hardly_changes_when_images_are_added(tmp_path):
    pictures(tmp_path, {'a': 100, 'b': 100})
    before = {*split(tmp_path, 'test', 0.2)[0]}
    Image.new('RGB', (8, 8)).save(tmp_path / 'a' / 'new.png')
    assert len(before - {*split(tmp_path, 'test', 0.2)[0]}) <= 1


def test_a_folder_with_test_images_is_not_divided(tmp_path):
    pictures(tmp_path / 'train'), pictures(tmp_path / 'val')
    with pytest.raises(UserError, match='val has the test images: pass --config.val_fraction=0'):
        split(tmp_path, 'train', 0.2)
    config = base.get_config()
    assert unread.why(config, 'val_fraction') == "dataset='synthetic': it is read with dataset=folder"
    with pytest.raises(UserError, match="no split 'extra'"):
        split(pictures(tmp_path / 'other'), 'extra', 0.2)


def test_what_is_held_out_is_the_same_on_every_machine():
    files, labels = [f'a/{number}.jpg'.encode() for number in range(10)], np.zeros(10, int)
    assert np.flatnonzero(sources._held_out(files, labels, 0.3, 0)).tolist() == HELD


HELD = [1, 4, 5]  # of the smallest: printf '0 a/1.jpg' | sha256sum


def test_a_folder_keeps_the_size_of_the_network(tmp_path):
    pictures(tmp_path / 'train'), pictures(tmp_path / 'test')
    for name, size, small in (
        ('resnet50', 224, 64),
        ('googlenet', 224, 80),
        ('alexnet', 227, 67),
        ('resnet20', 32, 32),
    ):
        config, smaller = (listing.load(f'{name}:folder={tmp_path}{part},epochs=2') for part in ('', ',small'))
        sizes = config.image_size, smaller.image_size
        assert sizes == (size, small) and config.num_classes == smaller.num_classes == 4
        assert config.test_crop.short_side[0] >= size and config.val_fraction == 0
    assert listing.load(f'decade:folder={tmp_path},small').members.resnet18.image_size == 64
    assert listing.load(f'decade:folder={tmp_path}').members.resnet18.image_size == 224
    for name in ('alexnet:small', 'alexnet:finetune', 'decade:small', 'alexnet:cifar10,finetune'):
        with pytest.raises(ValueError, match='is for your own photographs: folder=DIR,'):
            listing.load(name)


def test_a_single_folder_is_held_out_by_the_variant(tmp_path):
    config = listing.load(f'resnet18:folder={pictures(tmp_path)}')
    assert (config.val_fraction, config.num_classes, config.data_dir) == (0.2, 4, str(tmp_path))
    train, test = datasets.open_splits(config)
    assert (len(train), len(test)) == (14, 4)
    with pytest.raises(ValueError, match='does not have two classes: folder=DIR reads DIR/train/CLASS/IMAGE'):
        listing.load(f'resnet18:folder={tmp_path / "cat"}')


def test_finetuning_needs_nothing_that_a_short_run_cannot_give(tmp_path):
    pictures(tmp_path)
    for name in ('googlenet', 'resnet50', 'vgg_d', 'densenet121', 'lenet5', 'alexnet'):
        config = listing.load(f'{name}:folder={tmp_path},finetune')
        assert base.problem(config) == ''
        assert (config.average, config.recompute_batch_stats, config.colour.jitter) == ('none', 0, 'none')
        assert config.architecture_options.frozen_norm and 'group_size' not in config.architecture_options
        assert (config.optimizer, config.schedule, config.num_epochs) == ('momentum', 'steps', 30)
    longer = listing.load(f'resnet50:folder={tmp_path},finetune,epochs=60,option.frozen_norm=false')
    assert longer.learning_rates == ((40, 0.001), (20, 0.0001)) and not longer.architecture_options.frozen_norm


def stored(folder, **changes):
    """A folder with the config of a checkpoint."""
    config = listing.load('resnet50')
    config.update({'normalize': 'constant', 'mean': 'fb', 'std': 'fb', **changes})
    config.architecture_options = {'stride_in': '3x3', 'stem_pool': 'padded', 'group_size': 32}
    (folder / 'checkpoints' / '0').mkdir(parents=True)
    (folder / 'config.json').write_text(config.to_json_best_effort())
    return folder


def test_finetuning_takes_the_pixels_and_options_of_the_checkpoint(tmp_path):
    config = listing.load(f'resnet50:folder={pictures(tmp_path / "data")},finetune')
    with pytest.raises(UserError, match='fine-tuning needs weights to start from: pass --config.init_from=DIR'):
        finetune.adopt(config)
    config.init_from = str(stored(tmp_path / 'run', image_size=160))
    finetune.adopt(config, keep=('std',))
    options = config.architecture_options.to_dict()
    assert options == {'stride_in': '3x3', 'stem_pool': 'padded', 'frozen_norm': True}
    assert (config.normalize, config.mean, config.std, config.image_size) == ('constant', 'fb', 'none', 160)
    assert config.statistics == ''
    (tmp_path / 'run' / 'statistics.npz').touch()
    finetune.adopt(config)
    assert config.statistics == str(tmp_path / 'run' / 'statistics.npz')
    other = listing.load(f'resnet18:folder={tmp_path / "data"},finetune')
    other.init_from = config.init_from
    with pytest.raises(UserError, match='is resnet50, and the config resnet18: pass --config configs/resnet50.py'):
        finetune.adopt(other)
    other.init_from = str(tmp_path / 'nowhere')
    with pytest.raises(UserError, match='init_from: .*nowhere does not exist'):
        finetune.adopt(other)


def test_the_size_that_a_checkpoint_was_made_for_is_read(tmp_path):
    assert init_from._image_size(stored(tmp_path / 'run')) == 224
    (tmp_path / 'run' / 'config.json').unlink()
    assert init_from._image_size(tmp_path / 'run') is None


def lines(train, test, names=('cat', 'dog')):
    config = types.SimpleNamespace(dataset='folder')
    parts = (types.SimpleNamespace(labels=np.array(labels), class_names=names) for labels in (train, test))
    return console.class_lines(config, *parts)


def test_classes_are_listed_with_their_numbers_of_images():
    assert lines([0, 0, 1], [0, 1]) == ['classes (training + test images): cat 2 + 1, dog 1 + 1']
    unequal = lines([0] * 9 + [1] * 3, [0, 0, 0, 1])
    assert unequal[1:] == [
        'warning: cat has 9 training images and dog 3: answering cat to every test image is an error of 25.00%'
    ]
    assert lines([0, 1], [0])[1:] == ['warning: no test images of dog']
    many = lines(range(30), range(30), tuple(map(str, range(30))))
    assert many[0].endswith('18 1 + 1, 19 1 + 1 and 10 more') and len(many) == 1


@pytest.mark.slow
def test_finetuning_from_the_command_line(digits_run, tmp_path, script):
    pictures(tmp_path / 'my pictures', {'cat': 12, 'dog': 4})
    workdir = tmp_path / 'run'
    options = '--config', f'lenet5:folder={tmp_path / "my pictures"},finetune,epochs=2', '--workdir', workdir
    done = script('train.py', *options, f'--config.init_from={digits_run[1]}')
    assert done.returncode == 0, done.stderr
    assert 'classes (training + test images): cat 10 + 2, dog 3 + 1' in done.stdout
    assert 'warning: cat has 10 training images and dog 3' in done.stdout
    assert 'images of 32x32' in done.stdout and 'other pixels' not in done.stdout
    assert 'confusion matrix (a row for each true class' in done.stdout
    assert f'predict: python predict.py --checkpoint {workdir} PICTURES' in done.stdout
    config = stored_config.get_config(str(workdir))
    assert (config.channels, config.fit, config.val_fraction) == (1, 'resize', 0.2)
    for command in (
        ('evaluate.py', '--worst'),
        ('predict.py', tmp_path / 'my pictures' / 'cat'),
        ('evaluate.py', '--config.val_fraction=0.5'),
    ):
        again = script(command[0], '--checkpoint', workdir, *command[1:])
        assert again.returncode == 0 and 'top-5' not in again.stdout, again.stderr
    seconds = [line for line in done.stdout.splitlines() if line.startswith('seconds')]
    again = script('train.py', *options, f'--config.init_from={digits_run[1]}')
    assert 'this run is finished' in again.stdout and seconds[0] in again.stdout.splitlines()
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    assert rows[-1]['kind'] == 'resume' and [row['kind'] for row in rows].count('finished') == 1
