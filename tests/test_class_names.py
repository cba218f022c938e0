"""Classes are compared by their names, wherever two lists of them meet, and names travel with checkpoints."""

import csv
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import digits
from PIL import Image

import architectures
import evaluation
from evaluation import label_sets, prediction, published
from figures import inputs, pictures, report
from input_pipeline import classes, datasets, example, loader, pack, sources
from input_pipeline.pixels import Pixels
from runtime import stored_config
from runtime.errors import UserError
from training import checkpoints, init_from, loop, preflight, workdir
from training.run import build_model
from weights import exporting, passport

RNG = np.random.default_rng(0)


def photographs(folder, names, each=3):
    """FOLDER/CLASS/IMAGE, gray noise of LeNet-5's size."""
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            Image.fromarray(RNG.integers(0, 256, (32, 32), np.uint8)).save(folder / name / f'{name} {number}.png')
    return folder


def on_folders(root, train, test, each=3, **changes):
    """A config on class folders of these names."""
    photographs(root / 'train', train, each)
    photographs(root / 'test', test, each)
    values = {'dataset': 'folder', 'data_dir': str(root), 'num_classes': len(train), 'batch_size': 8, 'steps': 2}
    values['learning_rates'] = ((1, 0.01),)
    return digits(**(values | changes))


def network(folder, config, names, seed=0):
    """A checkpoint with random weights and classes of these names; None: as written by older versions."""
    variables = architectures.initialize(build_model(config), seed, (32, 32, 1))
    variables = jax.tree.map(lambda x: 1.5 * x, variables)  # else probabilities hardly differ
    with checkpoints.Checkpoints(folder / checkpoints.FOLDER) as kept:
        kept.save_model(variables, checkpoints.describe(config, names))
    (folder / 'config.json').write_text(config.to_json_best_effort())
    return folder


def scores(member, source):
    """Logits [N, K] straight from the network, for images of its size, and each image's folder."""
    names = [source[number].name for number in range(len(source))]
    pixels = []
    for name in names:
        with open(name, 'rb') as file, Image.open(file) as image:
            pixels.append(np.asarray(image, np.float32)[..., None] / 255)
    low, high = member.config.pixel_range
    logits = member.model.apply(member.variables, low + (high - low) * np.array(pixels))
    return np.asarray(logits), [name.split('/')[-2] for name in names]


def wrong(logits, right, k):
    """Images of whose classes k or more others score as high."""
    return sum(np.sum(row >= row[number]) > k for row, number in zip(logits, right, strict=True))


# Lists of names


def test_classes_are_matched_by_name_in_any_order():
    for _ in range(50):
        ours = [f'class {number}' for number in RNG.permutation(30)[: RNG.integers(1, 30)]]
        theirs = list(RNG.permutation(ours)[: RNG.integers(1, len(ours) + 1)]) + ['none'] * int(RNG.integers(2))
        found = classes.positions(theirs, ours)
        assert [None if place is None else ours[place] for place in found] == [
            name if name in ours else None for name in theirs
        ]


@pytest.mark.parametrize(
    'theirs, ours, found',
    [
        ((None, None), ('a', 'b'), [0, 1]),  # a label file's numbers
        (('a', 'b'), (None, None), [0, 1]),
        ((None, 'b'), ('a', 'b'), [0, 1]),
        ((None, 'a'), ('a', 'b'), [None, None]),  # a number and a name that contradict each other
        (('0', '1', '10', '2'), (None,) * 4, [0, 1, None, None]),  # folders, sorted as text
        (tuple(sorted(map(str, range(12)))), (None,) * 12, [int(name) for name in sorted(map(str, range(12)))]),
        ((None,), ('a', 'b'), [None]),  # one of two, nobody knows which
        (('crane', 'crane'), ('crane', 'crane'), [0, 1]),  # ImageNet's names in words have two
        (('crane',), ('crane', 'crane'), [None]),
    ],
)
def test_what_has_but_a_number(theirs, ours, found):
    assert classes.positions(theirs, ours) == found


def test_imagenets_names_are_those_of_its_release(test_data):
    lines = (test_data / 'imagenet' / 'imagenet_labels' / 'synset_words.txt').read_text().splitlines()
    assert list(zip(classes.WNIDS, classes.NAMES, strict=True)) == [tuple(line.split(' ', 1)) for line in lines]
    with open(test_data / 'imagenet' / 'imagenet_val' / 'labels.csv') as file:
        for row in csv.DictReader(file):
            number = int(row['index'])
            assert (classes.WNIDS[number], classes.NAMES[number]) == (row['wnid'], row['name'])


# Training and test split


@pytest.mark.parametrize(
    'test, says',
    [
        (('a', 'b', 'd'), r"/test has the class 'd', which .*/train does not have\. There are: a, b, c$"),
        (
            ('a', 'B', 'c'),
            r"/test has the class 'B' and .*/train 'b', which differ only in case, .*: rename one of them$",
        ),
        (('a', 'b', 'c', 'd'), "has the class 'd'"),
        (('a', 'c'), r"/test lacks the class 'b' of .*/train: .*pass --config.on_bad_image=skip to test without it$"),
    ],
)
def test_splits_of_other_classes_are_refused_before_anything_is_written(tmp_path, test, says):
    config = on_folders(tmp_path / 'data', ('a', 'b', 'c'), test)
    for attempt in (
        lambda: loop.train(config, tmp_path / 'run'),
        lambda: preflight.check_run(config, tmp_path / 'run', lambda line: None),
        lambda: pack.sources_of(config, 'both', tmp_path / 'store'),
    ):
        with pytest.raises(UserError, match=says):
            attempt()
    assert [entry.name for entry in tmp_path.iterdir()] == ['data']


def test_a_near_miss_is_offered(tmp_path):
    config = on_folders(tmp_path, ('german shepherd', 'poodle'), ('german shepard', 'poodle'))
    with pytest.raises(UserError, match="has the class 'german shepard', .*, did you mean 'german shepherd'\\?"):
        datasets.open_splits(config)
    assert classes.unknown_class('A', ('hot-dog', 'x'), 'B', ('Hot_Dog', 'y')).endswith(
        'which differ only in case, spaces or dashes (and 1 more): rename one of them'
    )


def test_the_advice_for_a_class_without_test_images_works(tmp_path):
    config = on_folders(tmp_path, ('a', 'b', 'c'), ('a', 'c'), on_bad_image='skip')
    train, test = datasets.open_splits(config)
    assert test.class_names == train.class_names == ('a', 'b', 'c')
    assert test.notes == [f'{tmp_path}/test lacks 1 class of {tmp_path}/train: b']
    found = [test[number] for number in range(len(test))]
    assert [test.class_names[label] for _, label, _ in found] == [name.split('/')[-2] for _, _, name in found]
    batch = next(iter(loader.test_batches(test, Pixels(config).test_form, 6)))
    assert np.asarray(batch['label']).tolist() == [0, 0, 0, 2, 2, 2]


def test_memory_and_files_are_relabeled_alike():
    held = example.ArraySource(RNG.integers(0, 256, (6, 4, 4, 1), np.uint8), np.arange(6) % 3, 'xyz', 'held')
    new = classes.relabel(held, (5, 0, 2), 'abcdef', ['a note'])
    assert isinstance(new, example.ArraySource) and new.labels.tolist() == [5, 0, 2] * 2
    assert new.images is held.images and new.notes == ['a note'] and held.notes == []
    assert [classes.RelabeledSource(held, (5, 0, 2), 'abcdef')[k].label for k in range(3)] == [5, 0, 2]


def test_folders_that_are_numbers_say_how_they_are_sorted(tmp_path):
    source = sources.FolderSource(photographs(tmp_path / 'many', map(str, range(12)), 1))
    assert source.class_names[:3] == ('0', '1', '10')
    (note,) = source.notes
    assert 'sorted as text: 0, 1, 10, 11, ... are 0, 1, 2, 3' in note
    assert sources.FolderSource(photographs(tmp_path / 'few', map(str, range(10)), 1)).notes == []


def test_a_store_holds_splits_of_the_same_classes(tmp_path):
    config = on_folders(tmp_path / 'data', ('a', 'b'), ('a', 'c'), channels=1)
    store = tmp_path / 'store'
    pack.pack(pack.sources_of(config, 'train', store), store, 8, channels=1)
    with pytest.raises(UserError, match=f"/test has the class 'c', which {store}/train does not have"):
        pack.sources_of(config, 'test', store)
    (tmp_path / 'data' / 'test' / 'c').rename(tmp_path / 'data' / 'test' / 'b')
    pack.pack(pack.sources_of(config, 'test', store), store, 8, channels=1)
    config.update({'dataset': 'pack', 'data_dir': str(store)})
    assert classes.known_names(datasets.open_splits(config)[1]) == ('a', 'b')
    # A store of an older version does not say that its classes have names.
    manifest = json.loads((store / 'manifest.json').read_text())
    for held in manifest['splits'].values():
        held.pop('numbered')
    manifest['splits']['test']['class_names'] = ['a', 'x']
    (store / 'manifest.json').write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=f"{store}/test has the class 'x'"):
        datasets.open_splits(config)
    manifest['splits']['test']['class_names'] = ['0', '1']
    (store / 'manifest.json').write_text(json.dumps(manifest))
    assert classes.known_names(datasets.open_splits(config)[1]) == (None, None)


# A run


def test_a_run_carries_its_names_and_is_resumed_on_them_alone(tmp_path):
    config = on_folders(tmp_path / 'data', ('rose, red', 'rose, white', 'tulip'), ('rose, red', 'rose, white', 'tulip'))
    config.stop_at_step = 1
    loop.train(config, tmp_path / 'run')
    member = evaluation.open_checkpoint(config, tmp_path / 'run', 'latest').member
    assert member.class_names == ('rose, red', 'rose, white', 'tulip')
    (found,) = prediction.predict(member, prediction.Files([str(tmp_path / 'data/test/tulip/tulip 0.png')]))
    assert {guess['name']: guess['class'] for guess in found['best']} == {
        'rose, red': 0, 'rose, white': 1, 'tulip': 2,
    }  # fmt: skip
    for split in ('train', 'test'):
        (tmp_path / 'data' / split / 'tulip').rename(tmp_path / 'data' / split / 'daisy')
    config.stop_at_step = 0
    with pytest.raises(UserError, match="with other classes: class 0 is 'rose, red' there and 'daisy' here; pass"):
        loop.train(config, tmp_path / 'run')


def test_a_run_of_an_older_version_is_resumed(tmp_path):
    config = on_folders(tmp_path / 'data', ('a', 'b'), ('a', 'b'))
    info = checkpoints.describe(config) | {'examples_seen': 16}
    with checkpoints.Checkpoints(tmp_path / 'run' / checkpoints.FOLDER) as kept:
        kept.save_model({'params': {'x': np.zeros(2)}, 'batch_stats': {}}, info)
    assert workdir.resume_point(tmp_path / 'run', datasets.open_splits(config)[0])['start'] == (0, 16)


def test_weights_of_as_many_different_classes_are_reported(tmp_path):
    config = digits(num_classes=2)
    folder = network(tmp_path, config, ('cat', 'dog'))
    variables = architectures.initialize(build_model(config), 1, (32, 32, 1))
    says = "init_from: the checkpoint was trained on other classes: class 1 is 'dog' there and 'horse' here"
    assert init_from.load(folder, variables, class_names=('cat', 'horse')).notes[-1] == says
    for names in (('cat', 'dog'), (None, None), ('a', 'b', 'c')):
        assert 'other classes' not in init_from.load(folder, variables, class_names=names).notes[-1]


# Evaluation


@pytest.fixture(scope='module')
def three(tmp_path_factory):
    """A network of the classes a to f, and class folders of b, d and e."""
    root = tmp_path_factory.mktemp('three')
    config = on_folders(root, 'abcdef', 'bde', each=8)
    return config, network(root / 'run', config, 'abcdef')


def test_a_part_of_the_classes_is_asked_for_in_two_ways(three):
    config, folder = three
    entry = evaluation.open_checkpoint(config, folder)
    with pytest.raises(UserError, match="has 3 of the network's 6 classes: pass evaluate.py --labels subset=own for"):
        evaluation.evaluate(config, entry)
    logits, folders = scores(entry.member, datasets.open_split(config, 'test', any_classes=True))
    results = {}
    for labels, outputs in (('subset=own', 'bde'), ('subset=all', 'abcdef')):
        result, rows, names = evaluation.evaluate(config, entry, labels=labels)
        own, right = logits[:, ['abcdef'.index(name) for name in outputs]], [outputs.index(name) for name in folders]
        assert result['wrong_top1'] == wrong(own, right, 1) and result['wrong_top5'] == wrong(own, right, 5)
        shares = np.exp(own) / np.exp(own).sum(1, keepdims=True)
        assert [names[row.label] for row in rows] == folders and names == tuple(outputs)
        for row, share in zip(rows, shares, strict=True):
            np.testing.assert_allclose(row.probabilities, np.sort(share)[:-6:-1], rtol=1e-3)
        results[labels] = result['labels']
    assert results == {
        'subset=own': 'subset=own (3 of 6 classes, errors over their outputs alone)',
        'subset=all': 'subset=all (3 of 6 classes, errors over all 6 outputs)',
    }


def test_figures_of_a_part_of_the_classes_count_in_the_networks(three):
    config, folder = three
    entry = inputs.open_one(config, [str(folder)])
    data = inputs.open_data(config, member=entry.member)
    assert data.names == tuple('abcdef') and data.labels == 'subset=all'
    assert [data.names[data.source[k].label] for k in (0, 8, 16)] == ['b', 'd', 'e']
    result, _, _ = evaluation.evaluate(config, entry.checkpoint, labels='subset=all')
    assert f'<p>top-1: {result["wrong_top1"]} of 24 wrong' in report.tested(config, entry.checkpoint)[0][1]


def test_classes_that_the_network_lacks_are_refused(three, tmp_path):
    config, folder = three
    entry = evaluation.open_checkpoint(config, folder)
    config = on_folders(tmp_path, 'abcdef', 'bdz')
    for labels in ('', 'subset=all', 'subset=own'):
        with pytest.raises(UserError, match="has the class 'z', which the network does not have. There are: a, b, c"):
            evaluation.evaluate(config, entry, labels=labels)
    with pytest.raises(UserError, match="needs ImageNet's 1000 classes, and the network has 6"):
        evaluation.evaluate(config, entry, labels='imagenet_v2')


def test_numbers_sorted_as_text_are_the_numbers_that_they_are(tmp_path):
    # Trained on numbered labels (a label file), tested on folders called by the numbers.
    names = list(map(str, range(12)))
    config = on_folders(tmp_path, names, names, each=2)
    entry = evaluation.open_checkpoint(config, network(tmp_path / 'run', config, (None,) * 12))
    logits, folders = scores(entry.member, datasets.open_split(config, 'test'))
    result, rows, _ = evaluation.evaluate(config, entry)
    assert result['wrong_top1'] == wrong(logits, list(map(int, folders)), 1)
    assert [row.label for row in rows] == list(map(int, folders))


def test_wordnet_ids_of_some_folders_are_imagenets_classes(tmp_path):
    # Ten folders under a network of all 1,000 count as the same images with a label file of numbers.
    numbers = sorted(RNG.permutation(1000)[:10].tolist())
    folders = photographs(tmp_path / 'data' / 'val', [classes.WNIDS[number] for number in numbers], 2)
    config = digits(dataset='imagenet', data_dir=str(tmp_path / 'data'), num_classes=1000, test_split='val')
    flat = tmp_path / 'flat' / 'val'
    flat.mkdir(parents=True)
    with open(flat / 'labels.csv', 'w') as file:
        file.write('file,index\n')
        for path in sorted(folders.glob('*/*.png')):
            (flat / path.name).write_bytes(path.read_bytes())
            file.write(f'{path.name},{classes.WNIDS.index(path.parent.name)}\n')
    for names in (classes.WNIDS, None):  # None: of an older version
        entry = evaluation.open_checkpoint(config, network(tmp_path / f'run{names is None}', config, names))
        config.data_dir = str(tmp_path / 'data')
        with pytest.raises(UserError, match='--labels subset=own'):
            evaluation.evaluate(config, entry)
        every, rows, _ = evaluation.evaluate(config, entry, labels='subset=all')
        config.data_dir = str(tmp_path / 'flat')
        expected, others, words = evaluation.evaluate(config, entry)
        assert [row[2:] for row in rows] == [row[2:] for row in others]
        assert every['labels'] and not expected['labels'] and every['loss'] == pytest.approx(expected['loss'])
        assert names is None or words == classes.NAMES
    # WordNet ids in a label file name their classes, too.
    (flat / 'labels.csv').unlink()
    (flat / 'wnids.csv').write_text(''.join(f'{p.name},{p.parent.name}\n' for p in folders.glob('*/*.png')))
    source = datasets.open_source('flat', 'val', str(tmp_path / 'flat'), num_classes=1000, labels='wnids.csv')
    assert set(source.labels) == set(numbers) and source.class_names == classes.WNIDS


def folder_of(names):
    return SimpleNamespace(class_names=tuple(names), name='folder', notes=[])


def test_a_thousand_numbers_are_not_imagenets_classes():
    numbers = sorted(map(str, range(1000)))
    with pytest.raises(UserError, match="class '0' .*; for ImageNetV2 pass --labels imagenet_v2"):
        label_sets.create('', folder_of(numbers), 1000, classes.WNIDS)
    assert label_sets.create('imagenet_v2', folder_of(numbers), 1000, classes.WNIDS).label(2) == 10
    own = tuple(f'my {number}' for number in range(1000))
    with pytest.raises(UserError, match="and the network has others: class 0 is 'n01440764' there and 'my 0' here"):
        label_sets.create('imagenet_v2', folder_of(numbers), 1000, own)


def test_members_of_an_ensemble_have_the_same_classes(tmp_path):
    config = on_folders(tmp_path, 'ab', 'ab')
    one, other, older = (
        str(network(tmp_path / name, config, names)) for name, names in (('1', 'ab'), ('2', 'ba'), ('3', None))
    )
    with pytest.raises(UserError, match="2 has other classes than the first checkpoint: class 0 is 'a' there and 'b'"):
        evaluation.open_members(config, [one, other])
    members = evaluation.open_members(config, [older, one])
    assert evaluation.evaluate(config, *members)[2] == ('a', 'b')


def test_a_checkpoint_of_an_older_version_is_tested_as_it_was(tmp_path, capsys):
    config = on_folders(tmp_path, 'abc', 'abc')
    entry = evaluation.open_checkpoint(config, network(tmp_path / 'run', config, None))
    logits, folders = scores(entry.member, datasets.open_split(config, 'test'))
    result, _, names = evaluation.evaluate(config, entry)
    assert result['wrong_top1'] == wrong(logits, ['abc'.index(name) for name in folders], 1) and names == tuple('abc')
    (found,) = prediction.predict(entry.member, prediction.Files([str(tmp_path / 'test/a/a 0.png')]))
    assert {guess['name'] for guess in found['best']} == {'0', '1', '2'}
    config.data_dir = str(tmp_path / 'fewer')
    photographs(tmp_path / 'fewer' / 'test', 'ab')
    with pytest.raises(UserError, match='has 2 classes, and the network 3: they are not the same$'):
        evaluation.evaluate(config, entry)
    with pytest.raises(UserError, match='of an older version, does not have the names'):
        evaluation.evaluate(config, entry, labels='subset=all')


# Names that are printed and drawn


def test_a_thousand_own_classes_are_not_called_by_imagenets_names(tmp_path):
    config = digits(dataset='folder', num_classes=1000)
    own = tuple(f'part {number:04}' for number in range(1000))
    entry = inputs.open_one(config, [str(network(tmp_path / 'run', config, own))])
    path = photographs(tmp_path / 'in', ['x'], 1) / 'x' / 'x 0.png'
    (found,) = prediction.predict(entry.member, prediction.Files([str(path)]))
    assert all(guess['name'] == own[guess['class']] for guess in found['best'])
    assert inputs.open_data(config, [path], entry.member).names == own
    # An older one tells no names: numbers, for its data are not called ImageNet.
    older = evaluation.open_checkpoint(config, network(tmp_path / 'older', config, None)).member
    assert datasets.of_network(older.class_names, older.config) == tuple(map(str, range(1000)))


def test_only_imagenets_names_are_cut_at_a_comma():
    assert [pictures.short(name, 30) for name in ('rose, red', 'rose, white')] == ['rose, red', 'rose, white']
    assert [report._short(name) for name in ('rose, red', 'a<b, c')] == ['rose, red', 'a&lt;b, c']
    assert pictures.short('tench, Tinca tinca', 30) == report._short('tench, Tinca tinca') == 'tench'
    assert pictures.short('rose, which is red', 10) == 'rose, whi…'
    assert classes.readable(('n01440764', 'rose, red')) == ('tench, Tinca tinca', 'rose, red')


def test_converted_and_exported_weights_carry_their_names(tmp_path, converted):
    folder = converted('cifar_resnet20.npz', 'resnet20')
    card = json.loads((folder / passport.NAME).read_text())
    wanted = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']
    with checkpoints.Checkpoints(folder / checkpoints.FOLDER, read_only=True) as kept:
        assert kept.info(0)['class_names'] == card['class_names'] == wanted
    hub = exporting.hub_config(digits(num_classes=2), 'x', None, ('rose', 'tulip'))
    assert hub['label_names'] == ['rose', 'tulip']
    assert 'label_names' not in exporting.hub_config(digits(num_classes=2), 'x', None, (None, 'tulip'))
    assert datasets.describe(('rose', 'tulip'), 2) == '2: rose, tulip'
    assert datasets.describe((None, None), 2) == datasets.describe(None, 2) == '2, in an unknown order'


def test_cifar10s_folders_have_cifar10s_names(tmp_path):
    photographs(tmp_path / 'test', [*set(datasets.CIFAR10) - {'automobile'}, 'Automobile'], 1)
    with pytest.raises(UserError, match="has the class 'Automobile' and cifar10/test 'automobile', which differ"):
        datasets.open_source('cifar10', 'test', str(tmp_path))


@pytest.mark.slow
def test_photographs_in_folders_are_counted_as_they_are_with_a_label_file(converted, test_data, tmp_path):
    # 13 and 5 of 30 wrong over all outputs: counted with PyTorch (results/README.md).
    photos = test_data / 'imagenet' / 'imagenet_photos'
    for path in photos.glob('*.JPEG'):
        folder = tmp_path / 'val' / path.name.split('_')[0]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
    folder = converted('bvlc_googlenet.npz', 'googlenet')
    config = stored_config.get_config(str(folder))
    config.data_dir = str(tmp_path)
    entry = evaluation.open_checkpoint(config, folder)
    every = evaluation.evaluate(config, entry, labels='subset=all')[0]
    own = evaluation.evaluate(config, entry, labels='subset=own')[0]
    assert (every['wrong_top1'], every['wrong_top5']) == (13, 5)
    assert own['wrong_top1'] < 13 and own['wrong_top5'] < 5


def test_own_classes_get_no_row_of_imagenet(tmp_path):
    config = digits(dataset='imagenet', num_classes=1000)
    for names, said in ((classes.WNIDS, False), (tuple(f'part {k}' for k in range(1000)), True)):
        entry = evaluation.open_checkpoint(config, network(tmp_path / str(said), config, names))
        assert ("its classes are not ImageNet's" in published.trained(entry).doubts) == said
