import numpy as np
import pytest
from PIL import Image

from errors import UserError
from input_pipeline import loader, sources


def folder_source(tmp_path, count=10):
    for label in range(2):
        (tmp_path / str(label)).mkdir(parents=True)
    for i in range(count):
        Image.fromarray(np.full((6, 6, 3), i, np.uint8)).save(tmp_path / str(i % 2) / f'{i:02}.png')
    return sources.FolderSource(tmp_path)


def test_every_example_comes_once_an_epoch():
    n = 37
    order = loader.example_order(0, 3 * n, n, seed=5)
    epochs = order.reshape(3, n)
    for epoch in epochs:
        assert sorted(epoch) == list(range(n))
    assert not np.array_equal(epochs[0], epochs[1])


def test_order_is_a_function_of_seed_and_position():
    n = 37
    whole = loader.example_order(0, 100, n, seed=5)
    pieces = [loader.example_order(a, b, n, 5) for a, b in ((0, 10), (10, 36), (36, 37), (37, 75), (75, 100))]
    assert np.array_equal(np.concatenate(pieces), whole)
    assert not np.array_equal(loader.example_order(0, 100, n, seed=6), whole)
    lazy = loader.RunOrder(20, 90, n, 5)
    assert [lazy[i] for i in range(len(lazy))] == whole[20:90].tolist()


def test_order_stays_as_it_is():
    """A change here would make every published run another run."""
    assert loader.example_order(0, 8, 1000, seed=0).tolist() == [998, 162, 670, 664, 185, 322, 431, 318]


def test_streamed_batches_follow_the_order(tmp_path):
    source = folder_source(tmp_path)
    order = loader.RunOrder(3, 15, len(source), seed=1)
    batches = list(loader.stream(source, 4, 8, 1, 'resize', order))
    assert len(batches) == 3
    assert np.concatenate([b['index'] for b in batches]).tolist() == [order[i] for i in range(12)]
    first = batches[0]
    assert first['image'].shape == (4, 8, 8, 1) and first['image'].dtype == np.uint8
    for image, label, index in zip(first['image'], first['label'], first['index'], strict=True):
        example = source[index]
        assert label == example.label
        assert image.max() == image.min() == int(example.name[-6:-4])
    again = list(loader.stream(source, 4, 8, 1, 'resize', order))
    assert all(np.array_equal(a['image'], b['image']) for a, b in zip(batches, again, strict=True))


@pytest.mark.slow
def test_worker_processes_give_the_same_batches(tmp_path):
    source = folder_source(tmp_path)
    order = loader.RunOrder(0, 20, len(source), seed=1)
    alone, helped = (list(loader.stream(source, 4, 8, 1, 'resize', order, workers=w)) for w in (0, 2))
    assert all(np.array_equal(a[k], b[k]) for a, b in zip(alone, helped, strict=True) for k in a)


@pytest.mark.parametrize('batch_size', [1, 3, 4, 10, 16])
def test_test_batches_hold_every_example_once(tmp_path, batch_size):
    in_folder = folder_source(tmp_path)
    held = sources.ArraySource(np.zeros((10, 6, 6, 1), np.uint8), np.arange(10) % 2, 'ab', 'held')
    for source in (in_folder, held):
        seen = []
        for batch in loader.test_batches(source, batch_size, 8, 1, 'pad'):
            assert batch['image'].shape == (batch_size, 8, 8, 1)
            seen += batch['index'][batch['mask']].tolist()
        assert seen == list(range(10))


def test_a_broken_image_stops_or_is_left_out(tmp_path):
    source = folder_source(tmp_path)
    broken = tmp_path / '1' / '03.png'
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(UserError, match=r'1/03.png cannot be decoded.*on_bad_image=skip'):
        list(loader.test_batches(source, 4, 8, 1, 'pad'))
    batches = list(loader.test_batches(source, 4, 8, 1, 'pad', on_bad_image='skip'))
    assert sum(b['mask'].sum() for b in batches) == 9
    assert sum(b['bad'].sum() for b in batches) == 1


def test_an_image_too_large_to_pad(tmp_path):
    with pytest.raises(UserError, match='fit=resize'):
        loader.in_memory(sources.synthetic('test', 64, 1, 10), 32, 1, 'pad')
    with pytest.raises(UserError, match='too large to be padded'):
        list(loader.test_batches(folder_source(tmp_path), 4, 4, 1, 'pad'))


def test_streamed_versions_are_of_the_same_example(tmp_path):
    source = folder_source(tmp_path)
    (batch,) = loader.stream(source, 3, 8, 1, 'resize', np.array([4, 14, 94]))
    assert batch['index'].tolist() == [4, 14, 94]  # what the distortion is drawn from
    assert all(np.array_equal(image, batch['image'][0]) for image in batch['image'])
