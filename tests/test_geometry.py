import fractions
import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from input_pipeline import geometry

CUBIC = Image.Resampling.BICUBIC


def smooth(height, width, low=0, high=256, seed=0):
    """An image without hard edges, uint8 [height, width, 3], of gray levels low..high and somewhat beyond."""
    small = np.random.default_rng(seed).integers(low, high, (5, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), CUBIC))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encoded(image, form='JPEG', **options):
    buffer = io.BytesIO()
    Image.fromarray(image).convert(options.pop('mode', 'RGB')).save(buffer, form, **options)
    return buffer.getvalue()


def as_ycck(cmyk):
    """The JPEG of a CMYK image with the marker that says that its colors were transformed, as Photoshop does."""
    at = cmyk.index(b'Adobe') + 11
    return cmyk[:at] + b'\2' + cmyk[at + 1 :]


FORMS = {  # what ImageNet holds, and other things that people have
    'JPEG': encoded(smooth(97, 161), quality=90),
    'JPEG 4:4:4': encoded(noise(33, 47), quality=95, subsampling=0),
    'JPEG 4:2:2': encoded(noise(33, 47), quality=75, subsampling=1),
    'progressive': encoded(smooth(61, 43), progressive=True),
    'gray': encoded(smooth(40, 56), mode='L'),
    'RGB': encoded(smooth(40, 56), keep_rgb=True),
    'CMYK': encoded(smooth(40, 56), mode='CMYK'),
    'YCCK': as_ycck(encoded(smooth(40, 56), mode='CMYK')),
    'one pixel': encoded(smooth(40, 56)[:1, :1]),
    'PNG': encoded(smooth(40, 56), 'PNG'),
    'PNG with a palette': encoded(smooth(40, 56), 'PNG', mode='P'),
    'PNG with transparency': encoded(smooth(40, 56), 'PNG', mode='RGBA'),
    'BMP': encoded(smooth(40, 56), 'BMP'),
    'WebP': encoded(smooth(40, 56), 'WEBP'),
}
JPEGS = list(FORMS)[:8]


@pytest.mark.parametrize('form', FORMS)
def test_decoding_agrees_with_pillow_to_the_bit(form):
    with Image.open(io.BytesIO(FORMS[form])) as image:
        rgb, gray = np.asarray(image.convert('RGB')), np.asarray(image.convert('L'))
    decoded = geometry.decode(FORMS[form])
    assert decoded.dtype == np.uint8 and np.array_equal(decoded, rgb)
    assert np.array_equal(geometry.decode(FORMS[form], channels=1), gray[..., None])


def test_gray_files_have_three_equal_channels():
    gray = geometry.decode(FORMS['gray'])
    assert gray.shape == (40, 56, 3) and np.array_equal(gray[..., 0], gray[..., 1])
    assert np.array_equal(gray[..., 0], gray[..., 2])


def test_a_cmyk_file_looks_like_the_picture_it_was_made_of():
    difference = geometry.decode(FORMS['CMYK']).astype(int) - smooth(40, 56)
    assert np.abs(difference).mean() < 5  # inverted, as some decoders give it, it would be some 80


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_rotation_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    assert np.array_equal(geometry.decode(encoded(smooth(30, 50), exif=exif)), geometry.decode(encoded(smooth(30, 50))))


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('form', FORMS)
def test_half_a_file_is_refused(form, channels):
    with pytest.raises(ValueError, match='^cannot be decoded: ') as error:
        geometry.decode(FORMS[form][: len(FORMS[form]) // 2], channels)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('form', JPEGS)
def test_a_jpeg_without_its_last_two_bytes_is_refused(form, channels):
    with pytest.raises(ValueError, match='^cannot be decoded: image file is truncated'):
        geometry.decode(FORMS[form][:-2], channels)


@pytest.mark.parametrize('data', [b'', b'\xff', b'\xff\xd8', b'\xff\xd8\xff', b'\xff\xd8 no image', b'Not found\n' * 9])
def test_invalid_images_are_refused(data):
    for channels in (1, 3):
        with pytest.raises(ValueError, match='cannot be decoded: it is not an image'):
            geometry.decode(data, channels)


def png_of_zeros(height, width):
    """A valid black-and-white PNG of a few kilobytes."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(height * (1 + -(-width // 8))), 1)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', data) + chunk(b'IEND', b'')


def jpeg_that_claims(height, width, data=FORMS['JPEG']):
    at = data.index(b'\xff\xc0') + 5  # in its frame header
    return data[:at] + struct.pack('>HH', height, width) + data[at + 4 :]


@pytest.mark.parametrize('make', [png_of_zeros, jpeg_that_claims])
@pytest.mark.parametrize('size', [(20_000, 20_000), (10_000, 10_000), (9_460, 9_460), (65_500, 1_367)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(make, size):
    bomb = make(*size)
    assert size[0] * size[1] > geometry.MAX_PIXELS and len(bomb) < 300_000
    started = time.perf_counter()
    for channels in (1, 3):
        with pytest.raises(ValueError, match=r'cannot be decoded: .* pixels'):
            geometry.decode(bomb, channels)
    assert time.perf_counter() - started < 1  # to decode it takes longer


def test_a_large_photograph_is_below_the_limit():
    assert geometry.decode(png_of_zeros(9_000, 1_000)).shape == (9_000, 1_000, 3)
    assert 80_000_000 < geometry.MAX_PIXELS < 100_000_000


@pytest.mark.parametrize('filter', geometry.FILTERS)
@pytest.mark.parametrize('size', [(8, 8), (64, 48), (33, 100)])
def test_resizing_is_pillows(filter, size):
    pillow = {'nearest': 0, 'box': 4, 'bilinear': 2, 'bicubic': 3}[filter]  # its own numbers
    rgb = noise(40, 30)
    expected = np.asarray(Image.fromarray(rgb).resize(size[::-1], pillow))
    assert np.array_equal(geometry.resize(rgb, *size, filter), expected)
    gray = np.asarray(Image.fromarray(rgb[..., 1]).resize(size[::-1], pillow))
    assert np.array_equal(geometry.resize(rgb[..., 1:2], *size, filter)[..., 0], gray)


def test_shrinking_averages():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255  # without antialiasing they would turn all black or all white
    for filter, tolerance in (('box', 1), ('bilinear', 1), ('bicubic', 6)):
        assert np.abs(geometry.resize(stripes, 16, 16, filter)[2:-2, 2:-2].astype(int) - 127.5).max() <= tolerance
    assert np.array_equal(geometry.resize(stripes, 1, 1, 'box'), np.full((1, 1, 3), 128))


@pytest.mark.parametrize(('filter', 'make', 'most'), [
    ('bilinear', smooth, 1), ('bicubic', smooth, 1), ('bilinear', noise, 2), ('bicubic', noise, 24),
])  # fmt: skip
def test_resizing_a_box_equals_resizing_the_image_and_cropping(filter, make, most):
    """But for rounding; and Pillow clips between its two passes, whose order is another for tall images."""
    rng, beyond = np.random.default_rng(1), []
    for _ in range(60):
        height, width = rng.integers(20, 160, 2).tolist()
        image = make(height, width) // 2 + 60 if make is smooth else make(height, width)  # clipped nowhere
        short_side = int(rng.integers(10, 140))  # smaller and larger
        size = geometry.short_side_size(height, width, short_side)
        whole, rows, columns = geometry.resize(image, *size, filter), height / size[0], width / size[1]
        tall, wide = rng.integers(1, short_side + 1, 2).tolist()
        top, left = (int(rng.integers(0, side - part + 1)) for side, part in zip(size, (tall, wide), strict=True))
        box = (top * rows, left * columns, tall * rows, wide * columns)
        part = geometry.resize(image, tall, wide, filter, box)
        assert part.shape == (tall, wide, 3)
        difference = np.abs(part.astype(int) - whole[top : top + tall, left : left + wide])
        assert difference.max() <= max(most, 2), (size, box)
        beyond.append(np.mean(difference > most))
    assert np.mean(beyond) < 1e-3  # one pixel in thousands is rounded otherwise in both passes


def test_the_short_side_becomes_what_is_asked_and_the_long_one_is_rounded_half_up():
    rng = np.random.default_rng(2)
    for _ in range(5000):
        short, long = np.sort(rng.integers(1, 3000, 2)).tolist()
        target = int(rng.integers(1, 600))
        exact = fractions.Fraction(target * long, short)
        for truncate, scaled in ((False, (exact + fractions.Fraction(1, 2)).__floor__()), (True, exact.__floor__())):
            assert geometry.short_side_size(short, long, target, truncate) == (target, scaled)
            assert geometry.short_side_size(long, short, target, truncate) == (scaled, target)


@pytest.mark.parametrize(
    ('size', 'short_side', 'rounded', 'truncated'),
    [
        ((375, 500), 256, (256, 341), (256, 341)),  # 341.3
        ((333, 500), 256, (256, 384), (256, 384)),  # 384.4
        ((500, 334), 256, (383, 256), (383, 256)),  # 383.2
        ((400, 300), 256, (341, 256), (341, 256)),
        ((300, 500), 256, (256, 427), (256, 426)),  # 426.7
        ((4, 6), 3, (3, 5), (3, 4)),  # 4.5; Python's own round gives 4
        ((10, 20_000), 256, (256, 512_000), (256, 512_000)),
        ((1, 1), 256, (256, 256), (256, 256)),
    ],
)
def test_sizes_worked_by_hand(size, short_side, rounded, truncated):
    assert geometry.short_side_size(*size, short_side) == rounded
    assert geometry.short_side_size(*size, short_side, truncate=True) == truncated


def test_an_image_of_the_right_size_is_returned_unchanged():
    image = noise(24, 31)
    for filter in geometry.FILTERS:
        assert geometry.resize(image, 24, 31, filter) is image


SIZES = [(224, 224), (96, 97), (31, 50), (400, 300)]


@pytest.mark.parametrize('size', SIZES)
def test_the_fast_bicubic_agrees_with_pillow_to_a_gray_level(size):
    image = smooth(180, 240, 60, 200)
    assert image.min() > 10 and image.max() < 245  # nothing is clipped
    difference = geometry.resize_bicubic(image, *size).astype(int) - geometry.resize(image, *size, 'bicubic')
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize('size', SIZES)
def test_the_fast_bicubic_of_noise_agrees_with_pillow_on_the_mean(size):
    image = noise(180, 240)
    difference = geometry.resize_bicubic(image, *size).astype(int) - geometry.resize(image, *size, 'bicubic')
    assert np.abs(difference).mean() < 0.3


def test_the_fast_bicubic_takes_gray_and_parts_of_images():
    image = smooth(60, 80)
    gray = image[..., :1]
    assert np.array_equal(geometry.resize_bicubic(gray, 20, 30), geometry.resize(gray, 20, 30, 'bicubic'))
    part = image[7:41, 11:59]
    assert not part.flags.c_contiguous
    assert np.array_equal(geometry.resize_bicubic(part, 20, 30), geometry.resize_bicubic(part.copy(), 20, 30))


@pytest.mark.parametrize('size', [(1, 1), (10, 20_000), (20_000, 10), (1, 300), (2, 1)])
def test_images_of_any_shape_are_resized(size):
    image = np.full((*size, 3), 77, np.uint8)
    for resize in (geometry.resize, geometry.resize_bicubic):
        assert np.array_equal(resize(image, 24, 24), np.full((24, 24, 3), 77))


def test_padding_centers():
    image = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28, 1)
    padded = geometry.pad(image, 32, 32)
    assert np.array_equal(padded[2:30, 2:30], image) and padded.sum() == image.sum()
    odd = geometry.pad(np.ones((2, 3, 3, 1), np.uint8), 4, 6)
    assert odd.shape == (2, 4, 6, 1) and odd[:, 0:3, 1:4].all() and odd.sum() == 18


def test_gray_is_pillows():
    rgb = noise(50, 60)
    assert np.array_equal(geometry.match_channels(rgb, 1)[..., 0], np.asarray(Image.fromarray(rgb).convert('L')))
    gray = rgb[..., :1]
    assert np.array_equal(geometry.match_channels(gray, 3), np.concatenate([gray] * 3, -1))
    assert geometry.match_channels(rgb, 3) is rgb
