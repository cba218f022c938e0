"""Weights that others trained, converted and tested as a user does, against the wrong answers that PyTorch counts.

The files are `DECADE_TEST_DATA`'s: BVLC's GoogLeNet and photographs of ImageNet; Caffe's LeNet and MNIST; the ResNets
of akamaster/pytorch_resnet_cifar10 and test images of CIFAR-10.
"""

import pytest
from conftest import evaluate_folder

from runtime import stored_config

pytestmark = pytest.mark.optimized


def wrong(folder, data, protocol='single', **changes):
    """(top-1, top-5) wrong answers of a converted checkpoint on a folder; without it the test is skipped."""
    if not data.is_dir():
        pytest.skip(f'{data} is not there')
    config = stored_config.get_config(str(folder))
    config.data_dir = str(data)
    config.test_batch_size = 25 if config.dataset == 'imagenet' else 250
    config.update_from_flattened_dict(changes)
    result = evaluate_folder(config, folder, protocol=protocol)
    return result['wrong_top1'], result['wrong_top5']


@pytest.mark.slow
@pytest.mark.parametrize(
    'folder, changes, expected',
    [
        ('foolbox', {}, (5, 2)),
        ('imagenet_val', {}, (39, 14)),
        ('imagenet_photos', {}, (13, 5)),
        ('imagenet_val227', {}, (36, 13)),
        ('imagenet_val227', {'test_crop.short_side': (227, 227)}, (30, 11)),
    ],
)
def test_bvlc_googlenet(test_data, converted, folder, changes, expected):
    """Of imagenet_val, 39 and 14 of the 100 photographs; 0.01 in a probability would change four of the answers."""
    checkpoint_folder = converted('bvlc_googlenet.caffemodel', 'googlenet')
    assert wrong(checkpoint_folder, test_data / 'imagenet' / folder, **changes) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    'folder, expected',
    [('imagenet_photos', (13, 5)), ('foolbox', (5, 1))],
)
def test_ten_crops_of_bvlc_googlenet(test_data, converted, folder, expected):
    checkpoint_folder = converted('bvlc_googlenet.caffemodel', 'googlenet')
    assert wrong(checkpoint_folder, test_data / 'imagenet' / folder, 'ten_crop_square') == expected


def test_lenet_of_caffe(test_data, converted):
    top1, _ = wrong(converted('lenet_iter_10000.caffemodel', 'lenet_caffe'), test_data / 'mnist')
    assert top1 == 86


@pytest.mark.slow
@pytest.mark.parametrize('depth, expected', [(20, (85, 2)), (56, (74, 2))])
def test_cifar_resnet(test_data, converted, depth, expected):
    folder = converted(f'cifar_resnet{depth}.npz', f'resnet{depth}')
    assert wrong(folder, test_data / 'cifar10') == expected


@pytest.mark.slow
def test_cifar_resnet_on_jpegs(test_data, converted):
    folder = converted('cifar_resnet20.npz', 'resnet20')
    assert wrong(folder, test_data / 'cifar10' / 'jpeg') == (1897, 128)
