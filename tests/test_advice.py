"""The advice in error messages works: after following it literally, the next call gets further."""

import ast
import re

import numpy as np
import pytest
from absl import flags
from conftest import ROOT, digits
from ml_collections import config_flags
from PIL import Image

from configs import base, listing
from input_pipeline import datasets, loader, pack
from input_pipeline.example import ArraySource
from runtime.errors import UserError
from training import checkpoints, init_from, run, schedules


def followed(monkeypatch, message, key, value=None):
    """The value of the --config.KEY=VALUE that a message advises, as the command line reads it."""
    (advised,) = set(re.findall(rf'--config\.{re.escape(key)}(?:=("[^"]+"|[^\s,;:)]+))?', message))
    argv = ['train.py', f'--config.{key}={value or advised}']
    monkeypatch.setattr('sys.argv', argv)
    parsed = flags.FlagValues()
    config_flags.DEFINE_config_dict('config', base.get_config(), flag_values=parsed)
    parsed(argv)
    folder, _, name = key.rpartition('.')
    return (parsed.config[folder] if folder else parsed.config)[name]


def class_folders(folder, classes='abc', size=20, images=3):
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for name in classes:
            (folder / split / name).mkdir(parents=True)
            for number in range(images):
                pixels = rng.integers(0, 256, (size, size), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f'{number}.png')
    return folder


def test_the_number_of_classes(tmp_path, monkeypatch):
    config = digits(dataset='folder', data_dir=str(class_folders(tmp_path)))
    with pytest.raises(UserError, match='has 3 classes but the config has 10') as error:
        datasets.open_splits(config)
    config.num_classes = followed(monkeypatch, str(error.value), 'num_classes')
    assert [len(source) for source in datasets.open_splits(config)] == [9, 9]


def test_a_class_without_images(tmp_path, monkeypatch):
    class_folders(tmp_path)
    for path in (tmp_path / 'train' / 'b').iterdir():
        path.unlink()
    with pytest.raises(UserError) as error:
        datasets.open_source('folder', 'train', tmp_path)
    skip = followed(monkeypatch, str(error.value), 'on_bad_image')
    source = datasets.open_source('folder', 'train', tmp_path, on_bad_image=skip)
    assert len(source) == 6 and source.class_names == ('a', 'b', 'c')


def test_an_image_that_is_too_large(monkeypatch):
    digits_of_8 = datasets.open_split(digits(), 'train')
    source = ArraySource(digits_of_8.images[:5], digits_of_8.labels[:5], digits_of_8.class_names, 'five digits')
    with pytest.raises(UserError, match='too large to be padded') as error:
        loader.in_memory(source, loader.Form(4, 1))
    fit = followed(monkeypatch, str(error.value), 'fit')
    assert loader.in_memory(source, loader.Form(4, 1, fit))[0].shape == (5, 4, 4, 1)


def test_a_store_is_continued_without_the_bad_image(tmp_path, monkeypatch):
    source = datasets.open_source('folder', 'train', class_folders(tmp_path / 'data'))
    (tmp_path / 'data' / 'train' / 'b' / '1.png').write_bytes(b'no image')
    with pytest.raises(UserError, match='Fix or remove it, or pass') as error:
        pack.pack({'train': source}, tmp_path / 'store', 16, shard_records=2)
    skip = followed(monkeypatch, str(error.value), 'on_bad_image')
    manifest = pack.pack({'train': source}, tmp_path / 'store', 16, shard_records=2, on_bad_image=skip)
    assert manifest['splits']['train']['num_examples'] == 8


def test_a_run_that_is_shorter_than_its_rates():
    """Both remedies of the message work: the variant, with the number in the message, and other rates."""

    def schedule(config, num_examples=1_437):
        epochs = config.steps * config.batch_size / num_examples if config.steps else config.num_epochs
        return schedules.create(
            config.schedule, config.learning_rates, config.learning_rate, config.decay_factor, config.decay_every,
            config.decay_power, epochs, num_examples, config.batch_size,
        )  # fmt: skip

    for changes in ({'num_epochs': 3.0}, {'steps': 60}):
        with pytest.raises(UserError, match='last drop of the rate is after 27 epochs') as error:
            schedule(digits(**changes))
        (epochs,) = re.findall(r':epochs=([\d.]+),', str(error.value))
        shorter = listing.load(f'lenet5_digits:epochs={epochs}')
        shorter.update({'steps': changes.get('steps', 0)})
        assert float(schedule(shorter)(0)) == pytest.approx(0.02)
        assert float(schedule(digits(learning_rates=((1, 0.1),), **changes))(0)) == pytest.approx(0.1)


def test_groups_of_batch_norm():
    config = listing.load('resnet20:cifar10')
    config.update({'dataset': 'synthetic', 'batch_size': 96, 'num_epochs': 30.0})
    with pytest.raises(UserError, match='has groups of 64 images, and a step processes 96') as error:
        run.Run(config)
    (size,) = re.findall(r'--config\.architecture_options\.group_size=(\d+)', str(error.value))
    config.architecture_options.group_size = int(size)
    assert run.Run(config).model.group_size == 32


@pytest.mark.slow
def test_layers_that_are_named(digits_run, monkeypatch):
    _, workdir = digits_run
    variables = {'params': {'head': {'kernel': np.zeros((84, 10)), 'bias': np.zeros(10)}}, 'batch_stats': {}}
    with pytest.raises(UserError, match='does not fit this network: no layer') as error:
        init_from.load(workdir, variables)
    with checkpoints.Checkpoints(workdir / checkpoints.FOLDER, read_only=True) as kept:
        params = kept.read_model(kept.latest())['params']
    (theirs,) = (name for name, layer in params.items() if layer['kernel'].shape == (84, 10))
    layers = followed(monkeypatch, str(error.value), 'init_layers', f"('head={theirs}',)")
    assert layers == (f'head={theirs}',) and init_from.load(workdir, variables, layers).copied == ['head']


def strings(file):
    """The texts of a file; X stands for the values in f-strings."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield ''.join(part.value if isinstance(part, ast.Constant) else 'X' for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_key_that_a_message_names_is_one():
    config, unknown = base.get_config(), []
    for file in ROOT.rglob('*.py'):
        if 'tests' in file.relative_to(ROOT).parts:
            continue
        for text in strings(file):
            for key in re.findall(r'--config\.([a-z_]+(?:\.[a-z_]+)*)', text):
                part = key.removeprefix('members.classifier.').split('.')
                known = part[0] in config and (
                    len(part) == 1 or part[0] == 'architecture_options' or part[1] in config[part[0]]
                )
                if not known and key not in ('fall_data_dir', 'order'):  # of a series
                    unknown.append((file.name, key))
    assert not unknown
