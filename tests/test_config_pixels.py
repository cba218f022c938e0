"""What the configs of the papers do to an image, from their keys to the pixels that the network takes."""

import functools
import importlib

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from input_pipeline import crops, example, loader, sources, statistics
from input_pipeline.pixels import Pixels
from runtime.errors import UserError
from training.run import check


def config_of(name, **changes):
    config = importlib.import_module(f'configs.{name}').get_config()
    for key, value in changes.items():
        group, _, inner = key.partition('__')
        if inner:
            config[group][inner] = value
        else:
            config[key] = value
    check(config)
    return config


def batch_of(images, offset=(0, 0)):
    batch = loader.gather(
        images, np.zeros(len(images), np.int32), np.arange(len(images)), np.zeros(len(images), np.int32)
    )
    return batch | {'offset': np.tile(np.array([offset], np.int32), (len(images), 1))}


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_alexnet_subtracts_the_center_of_the_mean_and_its_authors_code_divides_by_1_1_in_training():
    measured = {'mean_image': pixels(256, 256, 3).astype(np.float32)}
    images, offset = pixels(2, 227, 227, 3), (7, 21)
    center = measured['mean_image'][None, 14 : 14 + 227, 14 : 14 + 227]  # cuda-convnet2
    under = measured['mean_image'][None, 7 : 7 + 227, 21 : 21 + 227]  # Caffe
    for changes, mean in (({}, center), ({'colour__mean_under_crop': True}, under)):
        config = config_of('alexnet', colour__lighting='none', colour__flip=False, **changes)
        for train, scale in ((True, 1 / 1.1), (False, 1.0)):
            pixels_of = Pixels(config, measured, 10)
            preprocess = pixels_of.train if train else pixels_of.test
            found = preprocess(batch_of(images, offset))
            np.testing.assert_allclose(found, (images - mean) * scale, rtol=1e-5, atol=1e-4)


def test_alexnet_has_lighting_and_flips_in_training_alone():
    measured = {'mean_image': np.zeros((256, 256, 3), np.float32)}
    config, images = config_of('alexnet', colour__scale=1.0), np.repeat(pixels(1, 227, 227, 3), 64, axis=0)
    tested = Pixels(config, measured).test(batch_of(images))
    np.testing.assert_array_equal(tested, images)
    trained = np.asarray(Pixels(config, measured, 10).train(batch_of(images)))
    flipped = np.ptp(trained - images, axis=(1, 2)).max(-1) > 1  # otherwise one color is added to all pixels
    assert 16 < flipped.sum() < 48
    colors = (trained - images)[~flipped]
    unflipped_again = (trained[flipped] - images[flipped, :, ::-1])[:, 0, 0]
    noise = np.concatenate([colors[:, 0, 0], unflipped_again]).std(0)
    np.testing.assert_allclose(np.ptp(colors, axis=(1, 2)), 0, atol=1e-3)
    assert noise.min() > 5 and noise.max() < 10  # about 7.4 gray levels


def test_what_is_measured_for_each_network():
    size, rule = statistics.view(config_of('alexnet'))
    view = rule(300, 500)  # short side 256: 256 x 427
    assert size == 256 and view.resize_then_slice == (256, 427, 0, 85)
    # ResNet's mean image is of the network's own size (KaimingHe/deep-residual-networks)
    size, rule = statistics.view(config_of('vgg_d', normalize='mean_image', crop__short_side=(256, 480)))
    assert size == 224 and rule(256, 480).resize_then_slice == (256, 480, 16, 128)
    assert statistics.view(config_of('lenet5')) == (32, None)


def test_statistics_are_measured_once_and_stored_with_the_run(tmp_path):
    source = example.ArraySource(pixels(6, 40, 60, 3), np.arange(6) % 2, 'ab', 'six')
    small = {'image_size': 24, 'crop__short_side': (32, 32), 'test_crop__short_side': (32, 32)}
    config = config_of('alexnet', **small)
    found = statistics.of_run(config, tmp_path, source)
    assert found['mean_image'].shape == (32, 32, 3) and (tmp_path / statistics.NAME).is_file()
    again = statistics.of_run(config, tmp_path)
    np.testing.assert_array_equal(again['mean_image'], found['mean_image'])
    assert statistics.of_run(config_of('vgg_d'), tmp_path / 'nowhere') == {}
    with pytest.raises(UserError, match='python data.py statistics'):
        statistics.of_run(config_of('alexnet', statistics=str(tmp_path / 'none.npz')), tmp_path, source)


def test_measured_lighting_takes_the_principal_components_of_the_data_set():
    measured = {'vectors': np.eye(3, dtype=np.float32), 'deviations': np.array([100, 0, 0], np.float32)}
    config = config_of('vgg_d', colour__lighting='measured', normalize='constant', mean='none', colour__flip=False)
    images = np.full((64, 4, 4, 3), 128, np.uint8)
    noise = np.asarray(Pixels(config, measured, 64).train(batch_of(images)))[:, 0, 0] - 128
    assert np.all(noise[:, 1:] == 0) and 6 < noise[:, 0].std() < 14  # 0.1 times 100


def test_vgg_and_googlenet_subtract_a_color():
    images = pixels(2, 224, 224, 3)
    for name, mean in (('vgg_d', (123.68, 116.779, 103.939)), ('googlenet', (123, 117, 104))):
        tested = Pixels(config_of(name)).test(batch_of(images))
        assert tested.dtype == jnp.float32
        np.testing.assert_allclose(tested, images - np.array(mean)[None, None, None], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('name', ['alexnet', 'vgg_d', 'googlenet'])
def test_a_form_gives_the_size_that_the_network_takes(name):
    config = config_of(name)
    for train in (True, False):
        form = Pixels(config).train_form if train else Pixels(config).test_form
        image, _ = loader.prepare_image(pixels(281, 400, 3), form, crops.Draws(0, 0, 0))
        assert image.shape == (config.image_size, config.image_size, 3)


def cut_by(rule, image):
    """(the views of a photograph, their offsets)."""
    views, resized = rule(*image.shape[:2]), {}
    return [crops.extract(image, view, resized) for view in views], [view.offset for view in views]


def test_test_views_are_those_of_pillow_to_the_bit():
    images = [pixels(300, 421, 3), pixels(500, 260, 3)]
    source = [sources.Example(image, label, 'made up') for label, image in enumerate(images)]
    rule = functools.partial(crops.five_crops, size=224, square=True, truncate=True)
    mapped = loader.map_images(source, functools.partial(cut_by, rule), threads=1)
    for number, (found, image) in enumerate(zip(mapped, images, strict=True)):
        assert found['index'] == found['label'] == number
        height, width = image.shape[:2]
        scaled = (256, 256 * width // height) if height < width else (256 * height // width, 256)
        whole = np.asarray(Image.fromarray(image).resize(scaled[::-1], Image.Resampling.BILINEAR))
        top, left = (scaled[0] - 256) // 2, (scaled[1] - 256) // 2
        views, offsets = found['value']
        for view, (y, x) in zip(views, [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)], strict=True):
            np.testing.assert_array_equal(view, whole[top + y : top + y + 224, left + x : left + x + 224])
        assert offsets == [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]


def test_test_views_of_a_broken_image_stop_or_are_empty():
    source = [sources.Example(b'no image', 1, 'broken.jpg'), sources.Example(pixels(256, 256, 3), 0, 'whole')]
    rule = functools.partial(crops.five_crops, size=224)
    cut = functools.partial(cut_by, rule)
    with pytest.raises(UserError, match=r'broken.jpg cannot be decoded.*on_bad_image=skip'):
        list(loader.map_images(source, cut))
    broken, whole = loader.map_images(source, cut, on_bad_image='skip')
    assert broken['value'] is None and np.shape(whole['value'][0]) == (5, 224, 224, 3)


@pytest.mark.parametrize(
    'changes, says',
    [
        ({'crop__kind': 'randon'}, 'did you mean random'),
        ({'crop__short_side': (200, 256)}, 'short_side must be'),
        ({'crop__filter': 'cubic'}, 'filter must be one of'),
        ({'crop__kind': 'area', 'crop__area': (0.0, 1.0)}, 'area must be'),
    ],
)
def test_a_wrong_crop_names_its_key(changes, says):
    with pytest.raises(UserError, match=says):
        _ = Pixels(config_of('alexnet', **changes)).train_form


@pytest.mark.parametrize(
    'changes, says',
    [
        ({'colour__jitter': 'fbb'}, 'colour.jitter must be one of none, fb, howard, inception'),
        ({'colour__lighting': 'cc'}, 'colour.lighting must be one of none, measured, fb, cc2, sqrt'),
        ({'colour__padding_mode': 'black'}, 'colour.padding_mode must be one of zero, reflect'),
        ({'colour__jitter': 'inception', 'colour__jitter_strength': 0.5}, 'has no strength'),
        ({'channels': 1}, 'requires RGB images'),
        ({'normalize': 'mean'}, 'normalize must be one of range, constant'),
        ({'mean': 'vggg'}, 'mean must be one of none'),
    ],
)
def test_wrong_colors_are_reported_before_anything_is_built(changes, says):
    with pytest.raises(UserError, match=says):
        config_of('vgg_d', **changes)
