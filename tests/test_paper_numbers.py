"""Numbers that the papers and their codes print, entered a second time, in another form than the sources have them."""

import jax.numpy as jnp
import numpy as np
import pytest

from evaluation import label_sets, protocols, published, scales, scoring
from input_pipeline import colour
from weights import layout

# Of each table the rows that are of networks of ours and not quoted, in its order: top-1/top-5.
ERRORS = {
    'alexnet2': '40.7/18.2 38.1/16.4 39.0/16.6 36.7/15.4',
    'zfnet2': '38.4/16.5 36.7/15.3 37.5/16.0 36.0/14.7',
    'overfeat2': '39.28/17.12 39.01/16.97 38.57/16.39 38.12/16.27 35.60/14.71 35.74/14.18 35.10/13.86 33.96/13.24',
    'googlenet3': '-/10.07 -/9.15 -/7.89 -/8.09 -/7.62 -/6.67',
    'vgg3': """29.6/10.4 29.7/10.5 28.7/9.9 28.1/9.4 28.1/9.3 27.3/8.8 27.0/8.8 26.8/8.7 25.6/8.1 27.3/9.0 26.9/8.7
        25.5/8.0""",
    'vgg4': '28.2/9.6 27.7/9.2 27.8/9.2 26.3/8.2 26.6/8.6 26.5/8.6 24.8/7.5 26.9/8.7 26.7/8.6 24.8/7.5',
    'vgg5': '24.6/7.5 24.4/7.2 24.6/7.4 24.4/7.1',
    'vgg6': '24.7/7.5 24.0/7.1 23.9/7.2 23.7/6.8',
    'prelu4': '26.25/8.25 25.81/8.08 24.77/7.26 24.20/7.03 25.46/7.63 24.83/7.39 24.02/6.51 22.97/6.28',
    'prelu5': '28.07/9.33 26.48/8.59 25.59/8.23 25.53/8.13 24.27/7.38',
    'prelu6': '22.85/6.27 21.59/5.71',
    'bn_inception4': '25.2/7.82 21.99/5.82 20.1/4.9',
    'resnet2': '27.94/- 27.88/-',
    'resnet3': '28.54/10.02 25.03/7.76 24.52/7.46 24.19/7.40 22.85/6.71 21.75/6.05 21.43/5.71',
    'resnet4': '21.84/5.71 21.53/5.60 20.74/5.25 19.87/4.60 19.38/4.49',
    'resnet6': '8.75/- 7.51/- 7.17/- 6.97/- 6.43/- 7.93/-',
    'resnext3': '22.2/-',
    'resnext4': '21.2/5.6 20.4/5.3',
    'resnext5': '19.1/4.4',
    'densenet2': '5.92/- 4.51/- 24.15/- 22.27/-',
    'densenet3': '25.02/7.71 23.61/6.66 23.80/6.85 22.08/5.92 22.58/6.34 21.46/5.54 22.15/6.12 20.80/5.29',
    'senet8': '18.68/4.47 17.28/3.79',
    'senet9': '16.88/3.58',
}


@pytest.mark.parametrize('name', ERRORS)
def test_published_errors(name):
    rows = [row for row in published.TABLES[name].rows if row.members and not row.is_quoted]
    if name == 'senet8':
        rows = rows[-2:]  # before them networks by other trainings
    assert [row.errors for row in rows] == ERRORS[name].split()


# Protocols by their default numbers: short sides; what is averaged; of each scale its crops (None is a dense pass), the
# order of a dense pass's reduction, and its weight, None by the number of its views.
CROPS_256 = ((256,), 'softmax', ((5, None),))
PROTOCOLS = {
    'ten_crop_square': CROPS_256,  # Krizhevsky et al. 2012, section 4.1
    'ten_crop_warped': CROPS_256,
    'ten_crop_full': CROPS_256,  # He et al. 2015b, section 3.4
    'ten_crop_full_logits': ((256,), 'logits', ((5, None),)),  # fb.resnet.torch adds raw outputs
    'ten_crop_cross': CROPS_256,
    'ten_crop_cross_warped': CROPS_256,
    'googlenet_144': ((256, 288, 320, 352), 'softmax', ((18, None),)),  # Szegedy et al. 2014, section 7
    'vgg_dense': ((256, 384, 512), 'softmax', (('space_first', 1),)),  # Simonyan and Zisserman 2014, section 3.2
    'vgg_multicrop': ((256, 384, 512), 'softmax', ((25, None),)),
    'vgg_both': ((256, 384, 512) * 2, 'softmax', ((25, 1),) * 3 + (('space_first', 1),) * 3),
    'overfeat_coarse': ((245,), 'softmax', (('max', 1),)),  # Sermanet et al. 2014, table 5
    'overfeat_fine': ((245, 281, 389, 461), 'softmax', (('max', 1),)),
    'spp_96': ((224, 256, 300, 360, 448, 560), 'softmax', (('nine_windows', None),)),  # He et al. 2014, section 3.1
    'spp_98': (
        (224, 256, 300, 360, 448, 560, 256), 'softmax', (('nine_windows', None),) * 6 + (('softmax_first', None),)
    ),
    'prelu_dense': ((256, 384, 480), 'softmax', (('softmax_first', 1),)),  # He et al. 2015a, table 4
    'resnet_fcn': ((224, 256, 384, 480, 640), 'softmax', (('softmax_first', 1),)),  # He et al. 2015b, section 3.4
}  # fmt: skip


def test_every_protocol_of_several_views_is_here():
    assert set(PROTOCOLS) == set(protocols.PROTOCOLS)


@pytest.mark.parametrize('name', PROTOCOLS)
def test_what_a_protocol_looks_at(name):
    made, (sides, average, scales) = protocols.create(name), PROTOCOLS[name]
    assert (tuple(scale.short_side for scale in made.scales), made.average) == (sides, average)
    assert made.flip and made.size == 224
    scales = scales * len(sides) if len(scales) == 1 else scales
    for scale, (what, weight) in zip(made.scales, scales, strict=True):
        assert scale.weight == weight
        if scale.boxes:
            assert len(scale.boxes(scale.short_side, scale.short_side + 100, 224)) == what
        else:
            assert scale.reduce == what
    assert all(scale.square for scale in made.scales) == (name in ('ten_crop_square', 'ten_crop_cross'))
    assert all(scale.warp for scale in made.scales) == (name in ('ten_crop_warped', 'ten_crop_cross_warped'))


def test_overfeats_fast_network_has_the_short_sides_that_lie_nearest():
    made = protocols.create('overfeat_fine:1,2,3,4,5,6', network='overfeat_fast')
    grid = [23 + 32 * k for k in range(20)]
    accurate = (245, 281, 317, 389, 425, 461)
    assert [scale.short_side for scale in made.scales] == [min(grid, key=lambda x: abs(x - y)) for y in accurate]


def test_reductions_of_a_map_of_scores():
    scores = np.random.default_rng(0).standard_normal((2, 4, 5, 3)).astype(np.float32)
    average = scales.AVERAGES['softmax']
    softmax = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    space = np.exp(scores.mean((1, 2)))
    nine = softmax[:, [0, 1, 3]][:, :, [0, 2, 4]]
    expected = {
        'space_first': (space / space.sum(-1, keepdims=True), 1),
        'softmax_first': (softmax.mean((1, 2)), 20),
        'max': (softmax.max((1, 2)), 1),
        'nine_windows': (nine.mean((1, 2)), 9),
    }
    assert set(expected) == set(scales.REDUCTIONS)
    for name, (mean, views) in expected.items():
        found, count = scales.REDUCTIONS[name](jnp.asarray(scores), average)
        np.testing.assert_allclose(jnp.exp(found), mean, rtol=1e-5)
        assert count == views


def test_an_ensembles_members_count_by_their_weights():
    first, second = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.1, 0.8])
    found = scoring._weighted_log_mean([(3.0, np.log(first)), (1.0, np.log(second))])
    np.testing.assert_allclose(np.exp(found), (3 * first + second) / 4, rtol=1e-12)


# Pixels


def test_what_networks_subtract_and_divide_by():
    bgr = {  # as Caffe's files print them: blue, green, red
        'caffe': (104.0069879317889, 116.66876761696767, 122.6789143406786),
        'caffe_googlenet': (104, 117, 123),
        'bn_inception': (104, 117, 128),
        'vgg': (103.939, 116.779, 123.68),
    }
    for name, values in bgr.items():
        assert colour.MEANS[name][::-1] == values
    assert colour.MEANS['cc2'] == (127.305, 119.715, 104.913)
    for means in (colour.MEANS, colour.STDS):
        assert means['inception'] == 255 / 2
    assert (colour.MEANS['overfeat'], colour.STDS['overfeat']) == (118.380948, 61.896913)  # its README
    assert (colour.MEANS['none'], colour.STDS['none']) == (0, 1)
    assert set(colour.MEANS) == {
        *bgr,
        'none',
        'cc2',
        'fb',
        'inception',
        'overfeat',
        'cifar10',
        'cifar100',
        'fashion_mnist',
        'tiny_imagenet',
    }


def test_a_kernel_for_blue_green_red_sees_in_red_green_blue_what_it_saw():
    random = np.random.default_rng(0)
    kernel, image = random.normal(size=(3, 3, 3, 4)), random.normal(size=(3, 3, 3))
    saw = np.einsum('hwc,hwcn->n', image[..., ::-1], kernel)
    np.testing.assert_allclose(np.einsum('hwc,hwcn->n', image, layout.swap_channels(kernel)), saw, rtol=1e-12)


# Labels


def test_reals_lists_go_by_the_names_of_files_wherever_their_folders_stand(tmp_path):
    class Folders:
        files = (b'n01/val_3.JPEG', b'n02/val_1.JPEG', b'n02/val_4.JPEG', b'n03/val_2.JPEG')
        class_names, name = tuple(map(str, range(1000))), 'folders'

        def __len__(self):
            return len(self.files)

    (tmp_path / 'real.json').write_text('[[10], [20, 21], [30], []]')
    accepted = label_sets.create(f'real={tmp_path}/real.json', Folders(), 1000).accepted
    assert [accepted(number) for number in range(4)] == [(30,), (10,), (), (20, 21)]
