"""Host side, uint8: decode, resize, pad. Pure functions on [H, W, C] arrays."""

import io
import warnings

import numpy as np
import simplejpeg
from kornia_rs import imgproc
from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from PIL.ExifTags import Base as ExifTag

# What Pillow warns of concerns no pixels (corrupt EXIF, odd metadata) or is refused below (too many pixels). The filter
# is the process's: `warnings.catch_warnings` is not safe in the threads that decode, and worker processes import this
# module too.
warnings.filterwarnings('ignore', module=r'PIL\.')

# A larger image is refused before it is decoded: a file of a few kilobytes can claim gigabytes. Pillow's own limit, a
# quarter of a gigabyte of pixels; no photograph of ImageNet comes near.
MAX_PIXELS = Image.MAX_IMAGE_PIXELS

FILTERS = {
    'nearest': Image.Resampling.NEAREST,
    'box': Image.Resampling.BOX,  # OpenCV's AREA
    'bilinear': Image.Resampling.BILINEAR,
    'bicubic': Image.Resampling.BICUBIC,
}


def decode(encoded, channels=3):
    """An encoded image (any format Pillow reads) as uint8 [H, W, channels]; channels is 1 (gray) or 3 (RGB).

    EXIF orientation is ignored, as ImageNet's users do; a TIFF's own orientation is honored, as Pillow does. JPEGs go
    through libjpeg-turbo's fast path, with Pillow's pixels to the bit; the rest (CMYK, a PNG named .JPEG, a file with a
    flaw) goes to Pillow, which decides, and becomes 8 bits by `to_array`.

    Raises:
      ValueError: the bytes are no image that can be decoded whole, one of more than MAX_PIXELS pixels, or one of
        numbers that `to_array` refuses.
    """
    if encoded[:2] == b'\xff\xd8' and channels == 3:
        try:
            height, width, colors, _ = simplejpeg.decode_jpeg_header(encoded)
            if height * width <= MAX_PIXELS and colors not in ('CMYK', 'YCCK'):
                return simplejpeg.decode_jpeg(encoded)
        except ValueError:
            pass
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.height * image.width > MAX_PIXELS:
                raise ValueError(f'{image.height} x {image.width} pixels are more than the limit, {MAX_PIXELS:,}')
            return to_array(image, channels)
    except Exception as error:  # Pillow's plugins raise whatever they like on broken files
        reason = 'it is no image that Pillow reads' if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f'cannot be decoded: {reason}') from error


def to_array(image, channels):
    """A Pillow image as uint8 [H, W, channels].

    Numbers of more than 8 bits are scaled by the range of their type: 65,535 of 16 bits becomes 255, and 1 of floating
    point. Transparent pixels are composited over white; the color that they hide is not seen.

    Raises:
      ValueError: numbers whose white is not known: 32-bit integers, floating point beyond 0..1.
    """
    if image.mode.startswith(('I', 'F')):
        image = Image.fromarray(_eight_bits(image))
    elif image.has_transparency_data:
        image = _over_white(image)
    array = np.asarray(image.convert('L' if channels == 1 else 'RGB'))
    return array[..., None] if channels == 1 else array


def _eight_bits(image):
    """Gray values of more than 8 bits, a Pillow image of mode I;16 (any byte order), I or F, as uint8 [H, W]."""
    tags = image.tag_v2 if image.format == 'TIFF' else {}  # read before the pixels, which drops some
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    white_is_zero = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0  # of 8 bits Pillow inverts itself
    values = np.asarray(image)
    if image.mode == 'F':
        if not (values.min() >= 0 and values.max() <= 1):  # nor NaN
            raise ValueError(
                f'it holds floating-point values of {values.min():g} to {values.max():g}, and those of 0 to 1 can be '
                'read: save it with 8 or 16 bits'
            )
        most = 1
    elif image.mode.startswith('I;16'):
        most = 2**bits - 1
    elif image.format == 'PPM':
        most = 65_535  # Pillow scales any maximum of more than 8 bits to this one
    else:
        raise ValueError(f'it holds signed or {bits}-bit integers, whose white is not known: save it with 8 or 16 bits')
    if 'transparency' in image.info:  # one value, in place of an alpha channel
        values = np.where(values == image.info['transparency'], most, values)
    gray = np.rint(values * (255 / most)).astype(np.uint8)
    return 255 - gray if white_is_zero else gray


def _over_white(image):
    """A Pillow image with transparency, of any mode, as RGB over white."""
    key = image.info.get('transparency')
    if isinstance(key, tuple) and image.tile and str(image.tile[0].args).startswith('RGB;16'):
        image.info['transparency'] = tuple(value >> 8 for value in key)  # as Pillow does to the pixels
    image = image.convert('RGBA')
    return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image).convert('RGB')


def orientation(file):
    """The EXIF orientation of an encoded image, 1 (upright) to 8, as `turned` takes it; 1 where none can be read.

    Args:
      file: an open file, of which the headers are read.
    """
    try:
        with Image.open(file) as image:
            found = 1 if image.format == 'TIFF' else image.getexif().get(ExifTag.Orientation, 1)  # `decode` turns TIFFs
    except Exception:  # as in `decode`, which says what is wrong where the image is broken and not its EXIF alone
        return 1
    return found if found in _TURNS else 1


_TURNS = {  # what brings an image upright, by the EXIF standard's table of where row 0 and column 0 lie
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image.swapaxes(0, 1)[:, ::-1],
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image.swapaxes(0, 1)[::-1],
}


def turned(image, orientation):
    """An image [H, W, C] that has an EXIF orientation, upright."""
    return np.ascontiguousarray(_TURNS[orientation](image))


def resize(image, height, width, filter='bilinear', box=None):
    """Resizes uint8 [H, W, C] to [height, width, C] with Pillow's filters, which widen when they shrink (antialiasing).

    Args:
      image: uint8 [H, W, 1 or 3].
      height, width: of the result.
      filter: of FILTERS.
      box: (top, left, height, width) of the region to resize, in pixels, fractions allowed; None is the whole. Near its
        border the filters read what lies outside it: resizing the whole and cutting is the same, but for rounding.
    """
    if box is None and image.shape[:2] == (height, width):
        return image
    if box is not None:
        top, left, tall, wide = box
        box = (left, top, min(left + wide, image.shape[1]), min(top + tall, image.shape[0]))  # Pillow's order
    pillow = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    resized = np.asarray(pillow.resize((width, height), FILTERS[filter], box=box))
    return resized[..., None] if image.shape[-1] == 1 else resized


def resize_bicubic(image, height, width):
    """As `resize` by 'bicubic', RGB in half the time, for training.

    Pillow rounds and clips between its two passes, this does not: where the cubic overshoots, at a hard edge, they
    differ by up to some 20 gray levels, elsewhere by at most one; by 0.03 on the mean of photographs.
    """
    if image.shape[-1] != 3:
        return resize(image, height, width, 'bicubic')
    return imgproc.resize(np.ascontiguousarray(image), (height, width), 'bicubic')


def short_side_size(height, width, short_side, truncate=False):
    """(height', width') of an image whose short side becomes `short_side` and whose shape is kept.

    The long side is rounded half up, as cuda-convnet2 does, or truncated, as fb.resnet.torch and torchvision do.
    """
    short, long = min(height, width), max(height, width)
    scaled = int(short_side * long / short) if truncate else int(short_side * long / short + 0.5)
    return (short_side, scaled) if height <= width else (scaled, short_side)


def resize_short_side(image, short_side, filter='bilinear', truncate=False):
    """Resizes uint8 [H, W, C] so that its short side is `short_side`; one that has it already is left as it is."""
    return resize(image, *short_side_size(*image.shape[:2], short_side, truncate), filter)


def pad(image, height, width):
    """Zeros around uint8 [..., H, W, C] up to [..., height, width, C], the image in the middle.

    28x28 digits become LeNet-5's 32x32 by two background pixels on each side (LeCun et al. 1998, section II.B).
    """
    rows, columns = height - image.shape[-3], width - image.shape[-2]
    spread = [(0, 0)] * (image.ndim - 3) + [
        (rows // 2, rows - rows // 2),
        (columns // 2, columns - columns // 2),
        (0, 0),
    ]
    return np.pad(image, spread)


def match_channels(image, channels):
    """Gray to RGB by repetition, RGB to gray by ITU-R 601 luma (Pillow's); [..., C] uint8 -> [..., channels]."""
    if image.shape[-1] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=-1)
    luma = image[..., :3].astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    return ((luma + 0x8000) >> 16).astype(np.uint8)[..., None]
