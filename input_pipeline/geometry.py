"""Host side, uint8: decode, resize, pad. Pure functions on [H, W, C] arrays."""

import io

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError


def decode(encoded, channels=3):
    """An encoded image (any format Pillow reads) as uint8 [H, W, channels]; channels is 1 (grey) or 3 (RGB).

    EXIF rotation is ignored, as ImageNet's users do. JPEGs go through libjpeg-turbo's fast path, with Pillow's pixels
    to the bit; what that refuses (CMYK, a PNG named .JPEG) goes to Pillow.

    Raises:
      ValueError: the bytes are no image that can be decoded whole.
    """
    if encoded[:2] == b'\xff\xd8' and channels == 3:
        try:
            return simplejpeg.decode_jpeg(encoded, colorspace='RGB', strict=False)
        except ValueError:
            pass  # Pillow decodes it, or says why not
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return to_array(image, channels)
    except Exception as error:  # Pillow's plugins raise whatever they like on broken files
        reason = 'it is no image' if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f'cannot be decoded: {reason}') from error


def to_array(image, channels):
    """A Pillow image as uint8 [H, W, channels]."""
    array = np.asarray(image.convert('L' if channels == 1 else 'RGB'))
    return array[..., None] if channels == 1 else array


def resize(image, height, width):
    """Resizes uint8 [H, W, C] to [height, width, C] by Pillow's bilinear filter (antialiased when shrinking)."""
    if image.shape[:2] == (height, width):
        return image
    pillow = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    resized = np.asarray(pillow.resize((width, height), Image.Resampling.BILINEAR))
    return resized[..., None] if image.shape[-1] == 1 else resized


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
    """Grey to RGB by repetition, RGB to grey by ITU-R 601 luma (Pillow's); [..., C] uint8 -> [..., channels]."""
    if image.shape[-1] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=-1)
    luma = image[..., :3].astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    return ((luma + 0x8000) >> 16).astype(np.uint8)[..., None]


def fit(image, size, method):
    """One image to size x size: 'pad' with zeros around it (it must not be larger), or 'resize'."""
    if method == 'resize':
        return resize(image, size, size)
    if max(image.shape[:2]) > size:
        raise ValueError(f'is {image.shape[0]}x{image.shape[1]}, too large to be padded to {size}x{size}')
    return pad(image, size, size)
