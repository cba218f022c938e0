"""The boxes of every protocol, to the pixel, for photographs of several shapes."""

import pytest

from evaluation import protocols, views
from input_pipeline import crops
from runtime.errors import UserError

SHAPES = {'landscape': (375, 500), 'portrait': (500, 375), 'square': (256, 256), 'panorama': (100, 3000)}


def grid_of(shape, short_side, **kept):
    """The resized photograph, and the (height, width) that is used."""
    _, kept = crops.crop_grid(*SHAPES[shape], short_side, truncate=True, **kept)
    return kept[2:]


@pytest.mark.parametrize(
    'shape, size',
    [('landscape', (256, 341)), ('portrait', (341, 256)), ('square', (256, 256)), ('panorama', (256, 7680))],
)
def test_the_short_side_is_256(shape, size):
    assert grid_of(shape, 256) == size


def corners(boxes):
    return [(top, left) for top, left, _ in boxes]


@pytest.mark.parametrize(
    'shape, expected',
    [
        ('landscape', [(0, 0), (0, 117), (32, 0), (32, 117), (16, 58)]),
        ('portrait', [(0, 0), (0, 32), (117, 0), (117, 32), (58, 16)]),
        ('square', [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]),
        ('panorama', [(0, 0), (0, 7456), (32, 0), (32, 7456), (16, 3728)]),
    ],
)
def test_ten_crop_full(shape, expected):
    scale = protocols.create('ten_crop_full').scales[0]
    assert corners(scale.boxes(*grid_of(shape, 256), 224)) == expected


@pytest.mark.parametrize('shape', SHAPES)
def test_ten_crop_square_is_the_same_for_every_shape(shape):
    scale = protocols.create('ten_crop_square').scales[0]
    grid = grid_of(shape, scale.short_side, square=scale.square)
    assert grid == (256, 256)
    assert corners(scale.boxes(*grid, 224)) == [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    wide = protocols.create('ten_crop_square:227')
    assert corners(wide.scales[0].boxes(*grid, wide.size)) == [(0, 0), (0, 29), (29, 0), (29, 29), (14, 14)]


def test_the_lectures_ten_crops_are_a_cross():
    scale = protocols.create('ten_crop_cross').scales[0]
    assert corners(scale.boxes(256, 256, 224)) == [(0, 16), (32, 16), (16, 0), (16, 32), (16, 16)]


def test_the_squares_and_views_of_googlenet():
    """Left, middle and right of a landscape; of each the corners, the center and the complete square."""
    boxes = views.of_googlenet(*grid_of('landscape', 256), 224)
    assert boxes[:6] == [(0, 0, 224), (0, 32, 224), (32, 0, 224), (32, 32, 224), (16, 16, 224), (0, 0, 256)]
    assert [boxes[k] for k in (5, 11, 17)] == [(0, 0, 256), (0, 42, 256), (0, 85, 256)]
    assert boxes[10] == (16, 58, 224) and boxes[12] == (0, 85, 224)
    upright = views.of_googlenet(*grid_of('portrait', 288), 224)
    assert [upright[k] for k in (5, 11, 17)] == [(0, 0, 288), (48, 0, 288), (96, 0, 288)]
    assert upright[6:11] == [(48, 0, 224), (48, 64, 224), (112, 0, 224), (112, 64, 224), (80, 32, 224)]
    assert views.squares(256, 256) == [(0, 0)] * 3  # duplicates stay, and so do their weights
    assert views.squares(256, 7680) == [(0, 0), (0, 3712), (0, 7424)]
    total = sum(
        len(scale.boxes(300 + scale.short_side, scale.short_side, 224))
        for scale in protocols.create('googlenet').scales
    )
    assert 2 * total == 144


def test_the_grid_of_vgg():
    boxes = views.grid(*grid_of('landscape', 256), 224)
    assert sorted({top for top, _, _ in boxes}) == [0, 8, 16, 24, 32]
    assert sorted({left for _, left, _ in boxes}) == [0, 29, 59, 88, 117]  # 117/4 = 29.25, 58.5, 87.75
    assert len(boxes) == len(set(boxes)) == 25
    assert sum(2 * len(scale.boxes(600, 700, 224)) for scale in protocols.create('vgg_multicrop').scales) == 150
    assert len(set(views.grid(256, 256, 224))) == 25
    assert sorted({left for _, left, _ in views.grid(256, 7680, 224)}) == [0, 1864, 3728, 5592, 7456]


def test_single_crops():
    for name, side, square, size, box in (
        ('single_224', 256, False, 224, (16, 58, 224)),
        ('single_227_square', 256, True, 227, (14, 14, 227)),
        ('single_320', 320, False, 320, (0, 53, 320)),
        ('single_299_of_352', 352, False, 299, (26, 85, 299)),
    ):
        made = protocols.create(name)
        (scale,) = made.scales
        assert (scale.short_side, scale.square, made.size, made.flip) == (side, square, size, False)
        assert scale.boxes(*grid_of('landscape', side, square=square), size) == [box]


@pytest.mark.parametrize(
    'side, expected',
    [(245, (245, 317)), (281, (281, 353)), (317, (317, 389)), (389, (389, 497)), (425, (425, 533)), (461, (461, 605))],
)
def test_overfeats_sizes_are_65_and_36_k(side, expected):
    grid = grid_of('landscape', side)
    assert protocols.overfeat_fit(*grid) == expected
    assert protocols.overfeat_fit(*grid[::-1]) == expected[::-1]
    assert (expected[1] - 65) % 36 == 0 and expected[1] <= grid[1] < expected[1] + 36


def test_names():
    assert protocols.create('overfeat_fine:1,2').scales[1].short_side == 281
    assert protocols.create('multicrop:256').name == 'vgg_multicrop:256'
    assert protocols.create('vgg_dense').name == 'vgg_dense:256,384,512'
    assert protocols.create('ten_crop_full_logits').average == 'logits'
    for name in protocols.names():
        assert protocols.create(name).name.partition(':')[0] == name.partition(':')[0]
    for wrong, says in (
        ('ten_crop_ful', "no protocol 'ten_crop_ful', did you mean ten_crop_full"),
        ('vgg_dense:x', 'the numbers after the colon must be integers'),
        ('spp_96:3', 'takes no numbers'),
        ('overfeat_fine:7', "OverFeat's scales are 1 to 6, not 7"),
        ('single_299_of_256', 'a crop of 299 does not fit a short side of 256'),
    ):
        with pytest.raises(UserError, match=says):
            protocols.create(wrong)
    with pytest.raises(UserError, match='has no dense pass to trim'):
        protocols.create('ten_crop_full', trimmed=True)
    assert protocols.create('resnet_fcn', trimmed=True).name.endswith('+trimmed')
    assert protocols.multiple_of_32(256, 341) == (256, 320)


@pytest.mark.parametrize('network, divisor', [('overfeat_accurate', 3), ('overfeat_fast', 2)])
def test_overfeats_offsets_pool_as_many_windows_each(network, divisor):
    """At every scale, for photographs of every shape; and the accurate network's maps are table 5's."""
    first, step = {'overfeat_accurate': (65, 36), 'overfeat_fast': (23, 32)}[network]

    def unpooled(x):
        if network == 'overfeat_accurate':
            return (((x - 7) // 2 + 1) // 3 - 6) // 2
        return (((x - 11) // 4 + 1) // 2 - 4) // 2

    protocol = protocols.create('overfeat_fine:1,2,3,4,5,6', network=network)
    for scale in protocol.scales:
        for long in range(scale.short_side, 3 * scale.short_side, 7):
            kept = scale.fit(scale.short_side, long)
            assert kept[0] == scale.short_side and long - step < kept[1] <= long
            assert all((x - first) % step == 0 for x in kept)
            for x in kept:
                assert len({(unpooled(x) - offset) // divisor for offset in range(divisor)}) == 1
    if network == 'overfeat_accurate':
        assert [unpooled(scale.short_side) for scale in protocol.scales] == [17, 20, 23, 29, 32, 35]


def test_what_a_protocol_decides_is_refused_in_the_config():
    keys = ['test_crop.filter', 'test_crop.short_side']
    with pytest.raises(UserError, match='test_crop.short_side has no effect with --protocol single_320, which'):
        protocols.refuse(['single_320'], keys)
    protocols.refuse(['single_320'], keys[:1])
    for own in ([], ['single'], ['single', 'single_320']):
        protocols.refuse(own, keys)
