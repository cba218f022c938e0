"""Host side, uint8: decode, resize, pad. Pure functions on [H, W, C] arrays."""

import contextlib
import io
import re
import threading
import warnings

import numpy as np
import simplejpeg
from kornia_rs import imgproc
from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from PIL.ExifTags import Base as ExifTag

# Pillow's warnings do not concern pixels (corrupt EXIF, odd metadata), or `decode` raises an error instead (too many
# pixels). The filter is global because `warnings.catch_warnings` is not thread-safe; worker processes import this
# module, too.
warnings.filterwarnings('ignore', module=r'PIL\.')

# Larger images are refused before they are decoded: a file of a few kilobytes can claim gigabytes. This is Pillow's own
# limit, a quarter of a gigabyte of pixels; no photograph of ImageNet comes close.
MAX_PIXELS = Image.MAX_IMAGE_PIXELS

_LARGE = 16_000_000  # pixels; of larger images, one is in memory at a time
_large_image = threading.Lock()
_thread = threading.local()  # `holds`: whether the thread has that lock; None outside of `one_large_image`
_BLOCK = 1 << 20  # values that are converted at a time

FILTERS = {
    'nearest': Image.Resampling.NEAREST,
    'box': Image.Resampling.BOX,  # OpenCV's AREA
    'bilinear': Image.Resampling.BILINEAR,
    'bicubic': Image.Resampling.BICUBIC,
}


@contextlib.contextmanager
def one_large_image():
    """A context manager, and decorator, for decoding and shrinking an image: in threads, large images take turns."""
    _thread.holds = False
    try:
        yield
    finally:
        if _thread.holds:
            _large_image.release()
        _thread.holds = None


def _wait_if_large(pixels):
    if pixels > _LARGE and getattr(_thread, 'holds', None) is False:
        _large_image.acquire()
        _thread.holds = True


def decode(encoded, channels=3):
    """Decode an image (any format Pillow reads) to uint8 [H, W, channels]; channels is 1 (gray) or 3 (RGB).

    EXIF orientation is ignored, as is usual for ImageNet; a TIFF's own orientation is applied, as Pillow does. JPEGs go
    through libjpeg-turbo's fast path, which gives the same pixels as Pillow, bit for bit. All else (CMYK, a PNG named
    .JPEG, a damaged file) goes to Pillow and is converted to 8 bits by `to_array`.

    Raises:
      ValueError: the image is invalid or truncated, its header declares another size than its pixels have, it has more
        than MAX_PIXELS pixels, or has values that `to_array` refuses.
    """
    problem = ''
    if encoded[:2] == b'\xff\xd8':
        try:
            height, width, color_space, _ = simplejpeg.decode_jpeg_header(encoded)
            if height * width <= MAX_PIXELS and color_space not in ('CMYK', 'YCCK'):
                _wait_if_large(height * width)
                image = simplejpeg.decode_jpeg(encoded)
                if channels == 3:
                    return image
                del image
        except ValueError as error:
            problem = str(error)
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.height * image.width > MAX_PIXELS:
                raise ValueError(f'{image.height} x {image.width} pixels exceed the limit of {MAX_PIXELS:,}')
            _wait_if_large(image.height * image.width)
            array = to_array(image, channels)
            if _has_other_size(problem, len(encoded)):
                raise ValueError(f'its header declares another size than its pixels have ({problem})')
            return array
    except Exception as error:  # Pillow's plugins raise all kinds of exceptions on broken files
        reason = 'it is not an image that Pillow can read' if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f'cannot be decoded: {reason}') from error


def _has_other_size(problem, num_bytes):
    """Return whether libjpeg's warning means that a JPEG has data for more or for fewer pixels than it declares."""
    extra = re.search(r'(\d+) extraneous bytes before marker', problem)
    return 'remature end' in problem or bool(extra and int(extra[1]) > max(64, num_bytes // 100))


def to_array(image, channels):
    """Convert a Pillow image to uint8 [H, W, channels].

    Values of more than 8 bits are scaled by the range of their type: 65,535 in 16 bits and 1 in floating point become
    255. Transparent pixels are composited over white.

    Raises:
      ValueError: the value of white is unknown: 32-bit integers, or floating-point values outside 0..1.
    """
    if image.mode.startswith(('I', 'F')):
        image = Image.fromarray(_eight_bits(image))
    elif image.has_transparency_data:
        image = _over_white(image)
    mode = 'L' if channels == 1 else 'RGB'
    array = np.asarray(image if image.mode == mode else image.convert(mode))
    return array[..., None] if channels == 1 else array


def _eight_bits(image):
    """Convert a gray Pillow image of mode I;16 (any byte order), I or F to uint8 [H, W]."""
    tags = image.tag_v2 if image.format == 'TIFF' else {}  # read first: reading the pixels drops some tags
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    white_is_zero = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0  # Pillow inverts 8-bit images itself
    values = np.asarray(image)
    if image.mode == 'F':
        if not (values.min() >= 0 and values.max() <= 1):  # nor NaN
            raise ValueError(
                f'it holds floating-point values from {values.min():g} to {values.max():g}, but only 0 to 1 can be '
                'read: save it with 8 or 16 bits'
            )
        most = 1
    elif image.mode.startswith('I;16'):
        most = 2**bits - 1
    elif image.format == 'PPM':
        most = 65_535  # Pillow scales any maximum of more than 8 bits to this one
    else:
        raise ValueError(
            f'it holds signed or {bits}-bit integers, whose value of white is unknown: save it with 8 or 16 bits'
        )
    if 'transparency' in image.info:  # one value that stands for transparent, instead of an alpha channel
        values = np.where(values == image.info['transparency'], most, values)
    gray = np.empty(values.shape, np.uint8)
    rows = max(1, _BLOCK // max(1, values.shape[1]))
    for top in range(0, len(values), rows):
        gray[top : top + rows] = np.rint(values[top : top + rows] * (255 / most))
    return 255 - gray if white_is_zero else gray


def _over_white(image):
    """Composite a Pillow image of any mode over white; return RGB."""
    key = image.info.get('transparency')
    if isinstance(key, tuple) and image.tile and str(image.tile[0].args).startswith('RGB;16'):
        image.info['transparency'] = tuple(value >> 8 for value in key)  # as Pillow does with the pixels
    image = image.convert('RGBA')
    return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image).convert('RGB')


def orientation(file):
    """Return the EXIF orientation of an encoded image, 1 (upright) to 8; 1 if it cannot be read.

    Args:
      file: an open file, of which the headers are read.
    """
    try:
        with Image.open(file) as image:
            # `decode` has turned TIFFs already.
            value = 1 if image.format == 'TIFF' else image.getexif().get(ExifTag.Orientation, 1)
    except Exception:  # if the image itself is broken, `decode` reports it
        return 1
    return value if value in _TO_UPRIGHT else 1


_TO_UPRIGHT = {  # by the EXIF standard's table of the sides that row 0 and column 0 are on
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image.swapaxes(0, 1)[:, ::-1],
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image.swapaxes(0, 1)[::-1],
}


def make_upright(image, orientation):
    """Turn an image [H, W, C] upright, given its EXIF orientation."""
    return np.ascontiguousarray(_TO_UPRIGHT[orientation](image))


def resize(image, height, width, filter='bilinear', box=None):
    """Resize uint8 [H, W, C] to [height, width, C] with Pillow's filters, which antialias when they shrink.

    Args:
      image: uint8 [H, W, 1 or 3].
      height, width: of the result.
      filter: a name of FILTERS.
      box: (top, left, height, width) of the region to resize, in pixels, fractions allowed; None for all of the image.
        Near its border the filters read pixels outside it, so resizing a box equals resizing the image and cropping,
        up to rounding.
    """
    if box is None and image.shape[:2] == (height, width):
        return image
    if box is not None:
        top, left, box_height, box_width = box
        right, bottom = min(left + box_width, image.shape[1]), min(top + box_height, image.shape[0])
        box = (left, top, right, bottom)  # Pillow's order
    pillow = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    resized = np.asarray(pillow.resize((width, height), FILTERS[filter], box=box))
    return resized[..., None] if image.shape[-1] == 1 else resized


def resize_bicubic(image, height, width):
    """Resize like `resize` with 'bicubic', but RGB in half the time; used for training.

    Pillow rounds and clips between its two passes, this function does not. At hard edges, where the cubic overshoots,
    the results differ by up to about 20 gray levels, elsewhere by at most one; on photographs by 0.03 on average.
    """
    if image.shape[-1] != 3:
        return resize(image, height, width, 'bicubic')
    return imgproc.resize(np.ascontiguousarray(image), (height, width), 'bicubic')


def short_side_size(height, width, short_side, truncate=False):
    """Return the (height, width) of an image after its short side is resized to `short_side` at the same aspect ratio.

    The long side is rounded half up, as in cuda-convnet2, or truncated, as in fb.resnet.torch and torchvision.
    """
    short, long = min(height, width), max(height, width)
    scaled = int(short_side * long / short) if truncate else int(short_side * long / short + 0.5)
    return (short_side, scaled) if height <= width else (scaled, short_side)


def pad(image, height, width):
    """Pad uint8 [..., H, W, C] with zeros to [..., height, width, C], with the image in the middle.

    28x28 digits become LeNet-5's 32x32 with two background pixels on each side (LeCun et al. 1998, section II.B).
    """
    rows, columns = height - image.shape[-3], width - image.shape[-2]
    padding = [(0, 0)] * (image.ndim - 3) + [
        (rows // 2, rows - rows // 2),
        (columns // 2, columns - columns // 2),
        (0, 0),
    ]
    return np.pad(image, padding)


def match_channels(image, channels):
    """Convert gray to RGB by repetition, or RGB to gray by ITU-R 601 luma as Pillow does: uint8 [..., channels]."""
    if image.shape[-1] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=-1)
    colors, weights = image[..., :3].reshape(-1, 3), np.array([19595, 38470, 7471], np.uint32)
    gray = np.empty(len(colors), np.uint8)
    for first in range(0, len(colors), _BLOCK):
        gray[first : first + _BLOCK] = (colors[first : first + _BLOCK].astype(np.uint32) @ weights + 0x8000) >> 16
    return gray.reshape(*image.shape[:-1], 1)
