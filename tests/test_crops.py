import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

from configs import base
from input_pipeline import crops, geometry, loader
from input_pipeline.crops import Draws
from runtime.errors import UserError

LARGE = 10**6  # pixels: of a photograph so large that rounding to them does not show
EVEN = 1e-3  # the p-value below which a sample is not of a distribution; the draws are the same each time


def visits(count, seed=0):
    """The draws of many visits, to one example each."""
    return (Draws(seed, 0, index) for index in range(count))


def is_uniform(values, low, high):
    return stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > EVEN


def are_even(counts):
    return stats.chisquare(counts).pvalue > EVEN


def photograph(height, width, seed=0):
    """Smooth, and clipped nowhere: uint8 [height, width, 3]."""
    small = np.random.default_rng(seed).integers(80, 180, (6, 6, 3), np.uint8)
    return geometry.resize(small, height, width, 'bicubic')


def resized(image, short_side, filter):
    return geometry.resize(image, *geometry.short_side_size(*image.shape[:2], short_side), filter)


def frame(height, width):
    """An image whose first two channels are the row and the column of each pixel."""
    rows, columns = np.indices((height, width), np.uint8)
    return np.stack([rows, columns, np.zeros_like(rows)], -1)


# Chance


def test_draws_are_a_function_of_seed_epoch_and_example():
    def first(*key):
        draws = Draws(*key)
        return [draws.uniform() for _ in range(50)]

    assert first(3, 1, 41) == first(3, 1, 41)
    keys = [(3, 1, 41), (4, 1, 41), (3, 2, 41), (1, 3, 41), (3, 1, 42), (3, 1, 40), (3, 1, 0), (3, 0, 0), (0, 0, 0)]
    everything = [value for key in keys for value in first(*key)]
    assert len(set(everything)) == len(everything)  # no stream runs into another


def test_draws_stay_as_they_are():
    """A change here would make every published run another run."""
    draws = Draws(0, 0, 0)
    assert [draws.integer(0, 999) for _ in range(8)] == [643, 63, 120, 338, 683, 428, 838, 696]


def test_draws_are_not_those_of_the_order():
    order = np.random.Philox(key=[5, 2]).random_raw(10_000)  # what `loader.example_order` sorts
    mine = np.array([Draws(5, 2, index).uniform() for index in range(1000)])
    assert not np.isin((order >> 11) * 2.0**-53, mine).any()
    assert loader.example_order(0, 10_000, 10_000, 5)[0].shape == (10_000,)


def test_uniform_draws_fill_their_range():
    within = [draws.uniform(-2, 3) for draws in visits(4000)]
    assert -2 <= min(within) < -1.99 and 2.99 < max(within) < 3 and is_uniform(within, -2, 3)
    draws = Draws(0, 0, 0)
    assert is_uniform([draws.uniform() for _ in range(4000)], 0, 1)  # of one visit, too
    assert Draws(0, 0, 0).uniform(7.0, 7.0) == 7


def test_neighboring_visits_are_independent():
    values = np.array([[draws.uniform(), draws.uniform()] for draws in visits(4000)])
    for a, b in ((values[:-1, 0], values[1:, 0]), (values[:, 0], values[:, 1]), (values[:-1, 1], values[1:, 0])):
        assert stats.pearsonr(a, b).pvalue > EVEN


def test_integers_include_both_ends():
    values = [draws.integer(-3, 5) for draws in visits(2000)]
    assert sorted(set(values)) == list(range(-3, 6)) and are_even(np.unique(values, return_counts=True)[1])
    assert all(type(value) is int for value in values)
    assert {draws.integer(4, 4) for draws in visits(50)} == {4}


def test_halves_are_rounded_up():
    assert [crops.round_half_up(x) for x in (0.49, 0.5, 1.5, 2.5, 2.51, 3.0)] == [0, 1, 2, 3, 3, 3]


# A short side


def test_alexnets_crops_are_at_33_by_33_places():
    """The integer positions of 224 in 256, with the flip 2,178; the paper's "factor of 2048" is 32 x 32 x 2."""
    views = [crops.random_crop(256, 256, draws, 224) for draws in visits(20_000)]
    places = np.array([view.offset for view in views])
    assert len(np.unique(places, axis=0)) == 33 * 33 == 2178 / 2
    assert places.min() == 0 and places.max() == 32
    assert are_even(np.bincount(places[:, 0])) and are_even(np.bincount(places[:, 1]))
    assert stats.pearsonr(*places.T).pvalue > EVEN
    assert all(view.box == (*view.offset, 224, 224) for view in views)


RULES = {
    'random': lambda *a, **k: crops.random_crop(*a, short_side=(24, 48), **k),
    'random of the square': lambda *a, **k: crops.random_crop(*a, short_side=(24, 48), square=True, **k),
    'random, truncated': lambda *a, **k: crops.random_crop(*a, short_side=(24, 48), truncate=True, **k),
    'random, warped': lambda *a, **k: crops.random_crop(*a, short_side=(24, 48), warp=True, **k),
    'one of five': lambda *a, **k: crops.one_of_five(*a, short_side=(24, 48), **k),
    'one of five of the square': lambda *a, **k: crops.one_of_five(*a, short_side=(32, 32), square=True, **k),
    'center': lambda *a, size, **k: crops.center_crop(*a, size=size, short_side=(32, 32), **k),
    'fb': lambda *a, **k: crops.area_crop(*a, form='fb', **k),
    'torchvision': lambda *a, **k: crops.area_crop(*a, form='torchvision', **k),
    'inception': lambda *a, **k: crops.area_crop(*a, form='inception', area=(0.05, 1.0), aspect=(0.75, 1.33), **k),
    'random filter': lambda *a, **k: crops.area_crop(*a, filter='random', **k),
    'whole': crops.whole_image,
}


@pytest.mark.parametrize('rule', RULES)
def test_views_are_within_the_image(rule):
    rng = np.random.default_rng(0)
    for draws in visits(400):
        height, width = rng.integers(1, 600, 2).tolist() if draws.uniform() < 0.8 else rng.integers(1, 9, 2).tolist()
        view = RULES[rule](height, width, draws, size=24)
        top, left, tall, wide = view.box
        assert top >= 0 and left >= 0 and tall > 0 and wide > 0 and view.size == 24
        assert top + tall <= height + 1e-9 * height and left + wide <= width + 1e-9 * width
        if view.crop_first:
            assert all(isinstance(value, int) for value in view.box)
        if view.resize_then_slice:
            height, width, top, left = view.resize_then_slice
            assert 0 <= top <= height - 24 and 0 <= left <= width - 24


@pytest.mark.parametrize('rule', RULES)
def test_views_are_cut_to_size(rule):
    rng = np.random.default_rng(0)
    for channels, draws in itertools.product((1, 3), visits(12)):
        height, width = rng.integers(1, 90, 2).tolist()
        image = rng.integers(0, 256, (height, width, channels), np.uint8)
        part = crops.extract(image, RULES[rule](height, width, draws, size=24))
        assert part.shape == (24, 24, channels) and part.dtype == np.uint8


@pytest.mark.parametrize('rule', RULES)
def test_views_are_a_function_of_the_draws(rule):
    for index in range(20):
        assert len({RULES[rule](50, 80, Draws(1, 2, index), size=24) for _ in range(3)}) == 1


@pytest.mark.parametrize(('size', 'grid', 'top', 'left'), [
    ((300, 500), (256, 427), 0, 85),  # 426.67, and (427 - 256) // 2
    ((500, 300), (427, 256), 85, 0),
    ((375, 500), (256, 341), 0, 42),  # 341.33, 42.5
    ((256, 256), (256, 256), 0, 0),
    ((256, 301), (256, 301), 0, 22),
    ((100, 100), (256, 256), 0, 0),
])  # fmt: skip
def test_the_square_is_the_center_of_short_side_256(size, grid, top, left):
    assert crops.crop_grid(*size, 256, square=True) == (grid, (top, left, 256, 256))
    assert crops.crop_grid(*size, 256) == (grid, (0, 0, *grid))
    rows, columns = size[0] / grid[0], size[1] / grid[1]
    for draws in visits(30):
        view = crops.random_crop(*size, draws, 227, square=True)
        down, right = view.offset
        assert 0 <= down <= 29 and 0 <= right <= 29  # in the square
        expected = ((top + down) * rows, (left + right) * columns, 227 * rows, 227 * columns)
        assert view.box == pytest.approx(expected, rel=1e-12)


def test_the_short_side_is_any_integer_of_its_range():
    sides = []
    for draws in visits(8000):
        view = crops.random_crop(LARGE, LARGE, draws, 224, (256, 480))
        sides.append(224 * LARGE / view.box[2])
    assert np.allclose(sides, np.rint(sides))
    values, counts = np.unique(np.rint(sides), return_counts=True)
    assert values.tolist() == list(range(256, 481)) and are_even(counts)


def test_a_crop_of_a_jittered_side_is_at_any_place():
    places = []
    for draws in visits(4000):
        view = crops.random_crop(300, 400, draws, 224, (256, 512))
        side = round(224 * 300 / view.box[2])
        long = crops.round_half_up(side * 400 / 300)
        places.append(((view.offset[0] + 0.5) / (side - 224 + 1), (view.offset[1] + 0.5) / (long - 224 + 1)))
    for values in zip(*places, strict=True):
        assert min(values) > 0 and max(values) < 1 and abs(np.mean(values) - 0.5) < 0.02


def test_zfnets_five_places():
    views = [crops.one_of_five(256, 256, draws, 224, square=True) for draws in visits(2000)]
    places = {(0, 0): 0, (0, 32): 0, (32, 0): 0, (32, 32): 0, (16, 16): 0}
    for view in views:
        places[view.offset] += 1
        assert view.box == (*view.offset, 224, 224)
    assert len(places) == 5 and are_even(list(places.values()))
    places = {crops.one_of_five(300, 500, draws, 224, square=False).offset for draws in visits(200)}
    assert places == {(0, 0), (0, 203), (32, 0), (32, 203), (16, 101)}  # 256 x 427, halves rounded down
    assert {view.offset for view in crops.five_crops(300, 500, 224)} == places


def test_the_center_crop():
    view = crops.center_crop(300, 500, size=224)
    assert view.offset == (16, 101) and view.resize_then_slice == (256, 427, 16, 101)
    assert view == crops.center_crop(300, 500, Draws(0, 0, 0), size=224)  # without chance
    squared = crops.center_crop(300, 500, size=224, square=True)
    assert squared.offset == (16, 16) and squared.resize_then_slice == (256, 427, 16, 85 + 16)
    assert crops.center_crop(500, 334, size=256, truncate=True).resize_then_slice == (383, 256, 63, 0)


def test_truncation_is_torchvisions():
    # Resize(256) of 500 x 300 is 426 x 256 there (426.67), 427 x 256 elsewhere
    for truncate, long in ((True, 426), (False, 427)):
        lefts = [crops.random_crop(300, 500, d, 256, truncate=truncate).offset[1] for d in visits(3000)]
        assert min(lefts) == 0 and max(lefts) == long - 256


def test_warping_loses_the_shape():
    view = crops.center_crop(300, 500, size=227, warp=True)
    assert view.box == pytest.approx((14 * 300 / 256, 14 * 500 / 256, 227 * 300 / 256, 227 * 500 / 256))
    image = photograph(60, 100)
    whole = geometry.resize(image, 48, 48)
    draws = Draws(0, 0, 1)
    view = crops.random_crop(60, 100, draws, 32, (48, 48), warp=True)
    top, left = view.offset
    difference = crops.extract(image, view).astype(int) - whole[top : top + 32, left : left + 32]
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize('size', [(60, 100), (100, 60), (48, 53), (20, 31)])
@pytest.mark.parametrize('filter', ['bilinear', 'bicubic'])
def test_a_view_is_the_resized_photograph_sliced(size, filter):
    image = photograph(*size)
    for square, draws in itertools.product((False, True), visits(10)):
        draws_again = Draws(0, 0, 7)
        view = crops.random_crop(*size, draws_again, 32, (40, 56), filter, square=square)
        assert view == crops.random_crop(*size, Draws(0, 0, 7), 32, (40, 56), filter, square=square)
        view = crops.random_crop(*size, draws, 32, (40, 56), filter, square=square)
        side = round(32 * min(size) / (view.box[2] if size[0] < size[1] else view.box[3]))
        whole = resized(image, side, filter)
        top, left = view.offset
        if square:
            top, left = top + (whole.shape[0] - side) // 2, left + (whole.shape[1] - side) // 2
        difference = np.abs(crops.extract(image, view).astype(int) - whole[top : top + 32, left : left + 32])
        assert difference.max() <= 2 and np.mean(difference > 1) < 0.005  # rounding, in two passes
    view = crops.center_crop(*size, size=32, short_side=(40, 40), filter=filter)
    top, left = view.resize_then_slice[2:]
    whole = resized(image, 40, filter)
    assert np.array_equal(crops.extract(image, view), whole[top : top + 32, left : left + 32])  # to the bit


def test_a_photograph_of_the_right_size_is_only_sliced():
    image = frame(64, 100)
    for square in (False, True):
        for draws in visits(20):
            view = crops.random_crop(64, 100, draws, 32, (64, 64), square=square)
            part, (top, left) = crops.extract(image, view), view.offset
            left += 18 * square
            assert np.array_equal(part, image[top : top + 32, left : left + 32]) and np.shares_memory(part, image)
    part = crops.extract(image, crops.center_crop(64, 100, size=32, short_side=(64, 64)))
    assert np.array_equal(part, image[16:48, 34:66]) and np.shares_memory(part, image)


def test_views_of_one_scale_share_the_resized_photograph():
    image, kept = photograph(60, 100), {}
    views = crops.five_crops(60, 100, 24, 32)
    parts = [crops.extract(image, view, kept) for view in views]
    assert len(kept) == 1 and all(np.array_equal(p, crops.extract(image, v)) for p, v in zip(parts, views, strict=True))


def test_alexnets_author_enlarged_by_cubic_and_shrank_by_area():
    for height, width, filter in ((300, 500, 'box'), (200, 500, 'bicubic'), (257, 256, 'box'), (255, 255, 'bicubic')):
        for rule in (crops.random_crop, crops.one_of_five, crops.center_crop):
            assert rule(height, width, Draws(0, 0, 0), size=224, filter='cuda_convnet').filter == filter
    jittered = [crops.random_crop(300, 400, draws, 224, (256, 400), 'cuda_convnet') for draws in visits(200)]
    assert all((view.filter == 'bicubic') == (view.box[2] < 224) for view in jittered)
    assert {view.filter for view in jittered} == {'box', 'bicubic'}


# The area crop

FORMS = ('fb', 'torchvision', 'inception')


def boxes(count, height=LARGE, width=LARGE, **options):
    """(fractions of the photograph's area, width/height, views) of `count` area crops."""
    views = [crops.area_crop(height, width, draws, 224, **options) for draws in visits(count)]
    tall, wide = np.array([view.box[2:] for view in views]).T
    return tall * wide / (height * width), wide / tall, views


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('size', [(LARGE, LARGE), (LARGE, int(1.2 * LARGE)), (int(1.2 * LARGE), LARGE)])
def test_areas_are_uniform_parts_of_the_photograph(form, size):
    # Up to 5/8 of these shapes every box fits, so that nothing is drawn again.
    areas, shapes, views = boxes(3000, *size, form=form, area=(0.08, 0.62), aspect=(3 / 4, 4 / 3))
    assert (areas >= 0.0999).all() if form == 'inception' else areas.min() < 0.081
    assert is_uniform(areas, 0.1 if form == 'inception' else 0.08, 0.62)
    assert shapes.min() >= 3 / 4 - 1e-5 and shapes.max() <= 4 / 3 + 1e-5 and all(view.crop_first for view in views)


SHARES = {  # the distribution of width/height where every box fits: P(width/height <= r)
    'fb': lambda r: ((r - 3 / 4) + (4 / 3 - 1 / r)) / 2 / (7 / 12),
    'torchvision': lambda r: np.log(r / (3 / 4)) / np.log(16 / 9),
    'inception': lambda r: (r - 3 / 4) / (7 / 12),
}


@pytest.mark.parametrize('form', FORMS)
def test_shapes_are_of_the_forms_distribution(form):
    _, shapes, _ = boxes(3000, form=form, area=(0.15, 0.7))
    inside = np.clip(shapes, 3 / 4, 4 / 3)  # by a hair, for rounding to pixels
    assert stats.kstest(inside, SHARES[form]).pvalue > EVEN
    for other in set(FORMS) - {form}:
        if 'inception' in (form, other):  # the other two are alike
            assert stats.kstest(inside, SHARES[other]).pvalue < EVEN
    # Turned over, wide is as likely as tall; not turned over, the mean is slightly wide.
    assert np.log(shapes).mean() == pytest.approx(0.027 if form == 'inception' else 0, abs=0.009)


@pytest.mark.parametrize('form', FORMS)
def test_large_areas_are_accepted_as_often_as_their_shapes_fit(form):
    low = 0.1 if form == 'inception' else 0.08
    areas, _, _ = boxes(4000, form=form, area=(low, 1.0))
    grid = np.linspace(low, 1, 2001)
    share = SHARES[form]
    fits = [share(min(1 / a, 4 / 3)) - share(max(a, 3 / 4)) for a in grid]  # of a square: r and 1/r at most 1/area
    below = np.concatenate([[0], np.cumsum((np.array(fits)[1:] + np.array(fits)[:-1]) / 2)])
    assert stats.kstest(areas, lambda a: np.interp(a, grid, below / below[-1])).pvalue > EVEN
    assert areas.max() > 0.9


@pytest.mark.parametrize('form', FORMS)
def test_boxes_are_at_any_place_where_they_fit(form):
    _, _, views = boxes(3000, 2000, 3000, form=form)
    top, left, tall, wide = np.array([view.box for view in views]).T
    for start, length, side in ((top, tall, 2000), (left, wide, 3000)):
        room = side - length
        assert (start >= 0).all() and (start <= room).all()
        assert is_uniform(((start + 0.5) / (room + 1))[room > 300], 0, 1)
    both_ends = [crops.area_crop(4, 4, d, 8, area=(0.5625, 0.5625), aspect=(1, 1), form=form).box for d in visits(200)]
    assert set(both_ends) == set(itertools.product((0, 1), (0, 1), (3,), (3,)))


def test_sides_are_rounded_half_up():
    for form in FORMS:
        for area, side in ((6.25, 3), (12.25, 4), (6.24, 2), (42.25, 7)):  # 2.5, 3.5, 2.498, 6.5
            view = crops.area_crop(10, 10, Draws(0, 0, 0), 8, area=(area / 100, area / 100), aspect=(1, 1), form=form)
            assert view.box[2:] == ((side, side) if form != 'inception' or side * side >= 10 else (10, 10))


def test_inceptions_boxes_are_at_least_a_tenth():
    areas, shapes, views = boxes(3000, form='inception', area=(0.05, 1.0), aspect=(0.75, 1.33))
    assert areas.min() >= 0.1 and areas.min() < 0.105 and shapes.max() <= 1.3301
    assert all(view.box[2:] != (LARGE, LARGE) for view in views)


def test_what_fb_falls_back_to():
    """Ten tries of at least 8% cannot fit: the short side to 224, the center crop."""
    for size in ((10, 20_000), (20_000, 10)):
        for draws in visits(20):
            view = crops.area_crop(*size, draws, 224)
            assert view == crops.center_crop(*size, size=224, short_side=(224, 224), filter='bicubic')
            assert view.box == ((0, 9995, 10, 10) if size[0] == 10 else (9995, 0, 10, 10))
    image = photograph(10, 400)
    view = crops.area_crop(10, 400, Draws(0, 0, 0), 32)
    whole = resized(image, 32, 'bicubic')
    assert whole.shape == (32, 1280, 3) and np.array_equal(crops.extract(image, view), whole[:, 624:656])


def test_what_torchvision_falls_back_to():
    """The largest centered box of a shape in range."""
    for draws in visits(20):
        options = {'size': 224, 'form': 'torchvision', 'filter': 'bilinear'}
        view = crops.area_crop(10, 20_000, draws, **options)
        assert view == crops.View((0, 9993, 10, 13), 224, 'bilinear', crop_first=True)  # 10 * 4/3 = 13.3
        view = crops.area_crop(20_000, 10, draws, **options)
        assert view.box == (9993, 0, 13, 10)  # 10 / (3/4)
        view = crops.area_crop(30, 30, draws, area=(1.0, 1.0), aspect=(1.2, 1.3), **options)
        assert view.box == (2, 0, 25, 30)  # its shape is below 1.2: 30 / 1.2
        view = crops.area_crop(30, 36, draws, area=(1.0, 1.0), aspect=(1.25, 1.3), **options)
        assert view.box == (0, 0, 29, 36)  # 36 / 1.25 = 28.8
        view = crops.area_crop(30, 40, draws, area=(1.0, 1.0), aspect=(1.2, 1.3), **options)
        assert view.box[0] == 0 and view.box[2:] == (30, 39)


def test_what_inception_falls_back_to():
    for size in ((10, 20_000), (20_000, 10)):
        view = crops.area_crop(*size, Draws(0, 0, 0), 224, form='inception', filter='bilinear')
        assert view == crops.View((0, 0, *size), 224, 'bilinear', crop_first=True)


def test_random_filters_are_four_and_each_as_likely():
    for form in FORMS:
        _, _, views = boxes(1000, form=form, filter='random')
        names, counts = np.unique([view.filter for view in views], return_counts=True)
        assert names.tolist() == ['bicubic', 'bilinear', 'box', 'nearest'] and are_even(counts)
    fallback = {crops.area_crop(10, 20_000, draws, 224, filter='random').filter for draws in visits(50)}
    assert fallback == {'bicubic', 'bilinear', 'box', 'nearest'}
    assert {view.filter for view in boxes(20, filter='bilinear')[2]} == {'bilinear'}


def test_an_area_crop_reads_nothing_outside_its_box():
    image = np.zeros((60, 60, 3), np.uint8)
    for form, draws in itertools.product(FORMS, visits(10)):
        view = crops.area_crop(60, 60, draws, 24, form=form)
        top, left, tall, wide = view.box
        image[:] = 255
        image[top : top + tall, left : left + wide] = 100
        assert (crops.extract(image, view) == 100).all()


# Extremes


def test_extreme_images_pass_every_rule_within_bounded_memory():
    """A 20,000 x 10 image has 0.6 MB; resized to a short side of 224 it would have 300 MB."""
    program = """
        import resource, sys
        import numpy as np
        sys.path.insert(0, 'tests')
        import test_crops
        from input_pipeline import crops

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for size in ((1, 1), (10, 20_000), (20_000, 10), (1, 20_000)):
            image = np.full((*size, 3), 99, np.uint8)
            for rule in test_crops.RULES.values():
                for index in range(3):
                    part = crops.extract(image, rule(*size, crops.Draws(0, 0, index), size=24))
                    assert part.shape == (24, 24, 3) and (part == 99).all()
            for form in test_crops.FORMS:
                part = crops.extract(image, crops.area_crop(*size, crops.Draws(0, 0, 0), 224, form=form))
                assert part.shape == (224, 224, 3) and (part == 99).all()
            for short_side in ((224, 224), (256, 256), (256, 512)):
                view = crops.random_crop(*size, crops.Draws(0, 0, 0), 224, short_side)
                assert (crops.extract(image, view) == 99).all()
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """
    program = '\n'.join(line[8:] for line in program.splitlines())
    done = subprocess.run([sys.executable, '-W', 'error', '-c', program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 200  # MB


# The crops of a config


def values(**changes):
    return {**base.get_config().crop, 'kind': 'random', 'short_side': (256, 256), **changes}


@pytest.mark.parametrize(('changes', 'message'), [
    ({'kind': 'randm'}, "no crop 'randm', did you mean random"),
    ({'short_side': (223, 256)}, r'short_side must be .*at least the image_size 224, not \(223, 256\)'),
    ({'short_side': (256, 255)}, 'short_side must be'),
    ({'kind': 'center', 'short_side': (0, 0)}, 'short_side must be'),
    ({'kind': 'one_of_five', 'short_side': (200, 256)}, 'short_side must be'),
    ({'short_side': (256,)}, r'short_side must be integers \(low, high\), not \(256,\)'),
    ({'short_side': (256, 480.5)}, 'short_side must be integers'),
    ({'short_side': ('a', 'b')}, 'short_side must be integers'),
    ({'filter': 'cubic'}, "filter must be one of nearest, box, bilinear, bicubic, cuda_convnet, not 'cubic'"),
    ({'filter': 'random'}, 'filter must be one of'),
    ({'kind': 'whole', 'filter': 'lanczos'}, 'filter must be one of'),
    ({'kind': 'area', 'filter': 'cuda_convnet'}, 'filter must be one of nearest, box, bilinear, bicubic, random, not'),
    ({'kind': 'area', 'form': 'caffe'}, "form must be one of fb, torchvision, inception, not 'caffe'"),
    ({'kind': 'area', 'area': (0.0, 1.0)}, r'area must be \(low, high\), above 0 and at most 1, not'),
    ({'kind': 'area', 'area': (0.08, 1.01)}, 'area must be'),
    ({'kind': 'area', 'area': (0.9, 0.8)}, 'area must be'),
    ({'kind': 'area', 'area': (0.5,)}, 'area must be'),
    ({'kind': 'area', 'area': (math.nan, 1.0)}, 'area must be'),
    ({'kind': 'area', 'aspect': (4 / 3, 3 / 4)}, r'aspect must be \(low, high\), above 0, not'),
    ({'kind': 'area', 'aspect': (-1.0, 1.0)}, 'aspect must be'),
    ({'kind': 'area', 'aspect': (1.0, 2.0, 3.0)}, 'aspect must be'),
])  # fmt: skip
def test_what_is_wrong_with_a_config_is_reported_with_its_key(changes, message):
    with pytest.raises(UserError, match=message) as error:
        crops.rule(224, **values(**changes))
    assert '\n' not in str(error.value)


def test_a_config_becomes_the_rule_that_it_says():
    draws = Draws(0, 0, 5)
    for changes, expected in (
        ({'short_side': (256, 480)}, crops.random_crop(300, 400, Draws(0, 0, 5), 224, (256, 480))),
        (
            {'square': True, 'filter': 'cuda_convnet', 'kind': 'one_of_five'},
            crops.one_of_five(300, 400, Draws(0, 0, 5), 224, square=True, filter='box'),
        ),
        ({'kind': 'center', 'truncate': True}, crops.center_crop(300, 400, size=224, truncate=True)),
        ({'kind': 'center', 'warp': True}, crops.center_crop(300, 400, size=224, warp=True)),
        ({'kind': 'whole', 'filter': 'box'}, crops.whole_image(300, 400, size=224, filter='box')),
        (
            {'kind': 'area', 'form': 'torchvision', 'area': (0.25, 0.5), 'aspect': (0.5, 2)},
            crops.area_crop(300, 400, Draws(0, 0, 5), 224, (0.25, 0.5), (0.5, 2), 'torchvision', 'bilinear'),
        ),
    ):
        assert crops.rule(224, **values(**changes))(300, 400, Draws(0, 0, 5)) == expected
    # Keys that a kind of crop does not read may have any value.
    assert crops.rule(224, **values(kind='area', short_side=(1, 2)))(300, 400, draws).size == 224
    assert crops.rule(224, **values(area=(0.0, 0.0), form='none'))(300, 400, draws).size == 224
    assert crops.rule(256, **values())(256, 256, draws).offset == (0, 0)  # the crop may be all of it
