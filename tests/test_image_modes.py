"""Images of more than 8 bits, with transparency, or turned, against NumPy and against files written by hand."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from input_pipeline import geometry

RAMP = np.linspace(0, 65_535, 256).astype(np.uint16).reshape(16, 16)
EIGHT_BITS = np.arange(256).reshape(16, 16)  # RAMP / 257


def encoded(image, form='PNG', **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **options)
    return buffer.getvalue()


def png(pixels, depth, color, transparent=b''):
    """A PNG of big-endian samples [H, W] or [H, W, C], by its specification; `transparent` is its tRNS chunk."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', pixels.shape[1], pixels.shape[0], depth, color, 0, 0, 0)
    rows = b''.join(b'\0' + row.tobytes() for row in pixels)
    parts = (
        chunk(b'IHDR', header),
        chunk(b'tRNS', transparent) if transparent else b'',
        chunk(b'IDAT', zlib.compress(rows)),
    )
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts) + chunk(b'IEND', b'')


def tiff(data, height, width, bits, photometric=1, sample_format=1):
    """A little-endian gray TIFF of one strip, by its specification."""
    entries = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    entries += [(273, 4, 8), (277, 3, 1), (278, 3, height), (279, 4, len(data)), (339, 3, sample_format)]
    table = b''.join(struct.pack('<HHII', tag, kind, 1, value) for tag, kind, value in entries)
    header = b'II*\0' + struct.pack('<I', 8 + len(data))
    return header + data + struct.pack('<H', len(entries)) + table + bytes(4)


def twelve_bits(values):
    """Pairs of 12-bit numbers in three bytes, the high bits first."""
    first, second = values.reshape(-1, 2).T
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()


FLOATS = (RAMP / 65_535).astype(np.float32)
RAMPS = {
    'PNG': encoded(RAMP),
    'PNG by hand': png(RAMP.astype('>u2'), 16, 0),
    'TIFF': encoded(RAMP, 'TIFF'),
    'TIFF, compressed': encoded(RAMP, 'TIFF', compression='tiff_lzw'),
    'TIFF, big-endian': encoded(RAMP.astype('>u2'), 'TIFF'),
    'TIFF by hand': tiff(RAMP.tobytes(), 16, 16, 16),
    'TIFF, white is zero': tiff((65_535 - RAMP).astype('<u2').tobytes(), 16, 16, 16, photometric=0),
    'PGM of 16 bits': encoded(RAMP, 'PPM'),
    'PGM of 10 bits': b'P5 16 16 1023\n' + np.rint(RAMP / 65_535 * 1023).astype('>u2').tobytes(),
    'JPEG 2000': encoded(RAMP, 'JPEG2000'),
    'TIFF of floats': encoded(FLOATS, 'TIFF'),
    'TIFF of floats, white is zero': tiff((1 - FLOATS).tobytes(), 16, 16, 32, photometric=0, sample_format=3),
    'PFM': encoded(FLOATS, 'PPM'),
    'TIFF of 12 bits': tiff(twelve_bits(np.rint(RAMP / 65_535 * 4095).astype(int)), 16, 16, 12),
}


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('form', RAMPS)
def test_a_ramp_of_more_than_eight_bits_stays_a_ramp(form, channels):
    decoded = geometry.decode(RAMPS[form], channels)
    assert decoded.dtype == np.uint8 and decoded.shape == (16, 16, channels)
    assert np.array_equal(decoded, np.repeat(EIGHT_BITS[..., None], channels, -1))


def test_colors_of_sixteen_bits_keep_their_high_byte():
    colors = np.random.default_rng(0).integers(0, 65_536, (8, 9, 3)).astype('>u2')
    assert np.array_equal(geometry.decode(png(colors, 16, 2)), colors >> 8)


@pytest.mark.parametrize(('image', 'reason'), [
    (FLOATS * 255, r'floating-point values from 0 to 255, but only 0 to 1 can be read: save it with 8 or 16 bits'),
    (FLOATS - 0.5, r'floating-point values from -0.5 to 0.5'),
    (np.full((4, 4), np.nan, np.float32), 'floating-point values from nan to nan'),
    (RAMP.astype(np.int32), r'signed or 32-bit integers, whose value of white is unknown: save it with 8 or 16 bits'),
])  # fmt: skip
def test_numbers_whose_white_is_not_known_are_refused_in_a_line(image, reason):
    for channels in (1, 3):
        with pytest.raises(ValueError, match=f'^cannot be decoded: it holds {reason}') as error:
            geometry.decode(encoded(image, 'TIFF'), channels)
        assert '\n' not in str(error.value)


def test_signed_numbers_are_refused():
    with pytest.raises(ValueError, match='it holds signed or 16-bit integers'):
        geometry.decode(tiff(RAMP.tobytes(), 16, 16, 16, sample_format=2))


def over_white(colors, alpha):
    """Porter and Duff's "over" on white, in floating point."""
    alpha = alpha[..., None] / 255
    return np.asarray(colors) * alpha + 255 * (1 - alpha)


RNG = np.random.default_rng(1)
COLORS, ALPHA = RNG.integers(0, 256, (12, 10, 3), np.uint8), RNG.integers(0, 256, (12, 10), np.uint8)
ALPHA[:4], ALPHA[4:8] = 0, 255
RGBA = np.concatenate([COLORS, ALPHA[..., None]], -1)
GRAY, KEY = COLORS[..., 0], COLORS[2, 3]
GRAY_ALPHA = Image.merge('LA', [Image.fromarray(GRAY), Image.fromarray(ALPHA)])
PALETTE, NUMBERS = RNG.integers(0, 256, (256, 3), np.uint8), RNG.integers(0, 256, (12, 10), np.uint8)
PALETTED = Image.frombytes('P', (10, 12), NUMBERS.tobytes())
PALETTED.putpalette(PALETTE.tobytes())
ONE = NUMBERS[0, 0]
ALPHAS = RNG.integers(0, 256, 256, np.uint8)
ALPHAS[::3] = 0
GRAY_16 = RNG.integers(0, 65_536, (12, 10)).astype('>u2')
COLORS_16 = RNG.integers(0, 65_536, (12, 10, 3)).astype('>u2')
BITS = RNG.integers(0, 2, (12, 10)).astype(bool)


def keyed(colors, pixels, key):
    """Colors [H, W, 3], white where the pixels [H, W] or [H, W, C] are of one value."""
    is_key = pixels == key if pixels.ndim == 2 else (pixels == key).all(-1)
    return np.where(is_key[..., None], 255, colors)


def gray_colors(gray):
    return np.repeat(np.asarray(gray)[..., None], 3, -1)


TRANSPARENT = {  # an encoded image, and its colors computed by NumPy
    'RGBA PNG': (encoded(RGBA), over_white(COLORS, ALPHA)),
    'RGBA WebP': (encoded(RGBA, 'WEBP', lossless=True, exact=True), over_white(COLORS, ALPHA)),
    'RGBA TIFF': (encoded(RGBA, 'TIFF'), over_white(COLORS, ALPHA)),
    'RGBA of 16 bits': (png(RGBA.astype('>u2') * 257, 16, 6), over_white(COLORS, ALPHA)),
    'gray with alpha': (encoded(GRAY_ALPHA), over_white(gray_colors(GRAY), ALPHA)),
    'palette with alphas': (
        encoded(PALETTED, transparency=ALPHAS.tobytes()),
        over_white(PALETTE[NUMBERS], ALPHAS[NUMBERS]),
    ),
    'palette with a key': (encoded(PALETTED, transparency=int(ONE)), keyed(PALETTE[NUMBERS], NUMBERS, ONE)),
    'GIF': (encoded(PALETTED, 'GIF', transparency=int(ONE), optimize=False), keyed(PALETTE[NUMBERS], NUMBERS, ONE)),
    'RGB with a key': (encoded(COLORS, transparency=tuple(KEY.tolist())), keyed(COLORS, COLORS, KEY)),
    'gray with a key': (encoded(GRAY, transparency=int(KEY[0])), keyed(gray_colors(GRAY), GRAY, KEY[0])),
    'black and white with a key': (encoded(BITS, transparency=0), np.full((12, 10, 3), 255)),
    'gray of 16 bits with a key': (
        png(GRAY_16, 16, 0, struct.pack('>H', GRAY_16[5, 5])),
        keyed(gray_colors(GRAY_16 / 257), GRAY_16, GRAY_16[5, 5]),
    ),
    'RGB of 16 bits with a key': (
        png(COLORS_16, 16, 2, struct.pack('>3H', *COLORS_16[5, 5].tolist())),
        keyed(COLORS_16 >> 8, COLORS_16, COLORS_16[5, 5]),
    ),
}


@pytest.mark.parametrize('form', TRANSPARENT)
def test_what_is_transparent_is_over_white(form):
    data, colors = TRANSPARENT[form]
    assert np.abs(geometry.decode(data) - colors).max() <= 1
    gray = geometry.decode(data, 1)[..., 0]
    assert np.abs(gray - colors @ [0.299, 0.587, 0.114]).max() <= 1.5  # ITU-R 601


def test_colors_under_full_transparency_do_not_show():
    hidden = np.zeros((4, 4, 4), np.uint8)
    hidden[..., 0] = 255
    assert np.array_equal(geometry.decode(encoded(hidden)), np.full((4, 4, 3), 255))


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('orientation', range(10))  # 0 and 9 are none
def test_upright_is_pillows(orientation, form):
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encoded(COLORS, form, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))
    assert np.array_equal(
        geometry.make_upright(geometry.decode(data), geometry.orientation(io.BytesIO(data))), expected
    )


def test_no_orientation_can_be_read_of_what_has_none():
    whole = encoded(COLORS, 'JPEG')
    broken = whole[:2] + b'\xff\xe1\0\x14Exif\0\0II*\0\x08\0\0\0\x09\0' + bytes(2) + whole[2:]  # ends in its table
    for data in (whole, broken, whole[:50], b'', b'no image'):
        assert geometry.orientation(io.BytesIO(data)) == 1
