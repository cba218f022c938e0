"""The evaluator's protocols again, as one would write them first: one image, one scale, one view after the other.

Pixels are RGB less a mean; photographs are resized by Pillow.
"""

import functools
import math

import jax
import numpy as np
from PIL import Image

from architectures import layers
from input_pipeline import colour

CHUNK = 25  # crops that go through a network together at most, to spare time


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@functools.cache
def forward(model, dense, mutable=False):
    apply = functools.partial(model.apply, dense=dense, mutable=mutable)
    return jax.jit(apply, compiler_options=layers.compiler_options())


def pixels(member, images):
    """The network's, of uint8 [B, H, W, 3]."""
    return np.float32(images) - np.float32(colour.MEANS[member.config.mean])


def logits(member, images, dense=False):
    """Of uint8 [B, H, W, 3]."""
    return np.asarray(forward(member.model, dense)(member.variables, pixels(member, images)))


def resize(image, height, width):
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def half_up(x):
    return int(x + 0.5)


def resize_short_side(image, side, rounds):
    short = min(image.shape[:2])
    return resize(image, *(side if length == short else rounds(side * length / short) for length in image.shape[:2]))


def middle(image, height, width):
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def crops(member, image, rounds=half_up):
    """The mean of the soft-maxes (or of logits) of every crop and its mirror image."""
    size, views = member.protocol.size, []
    for scale in member.protocol.scales:
        if scale.boxes is None:
            continue
        side = scale.short_side
        resized = resize(image, side, side) if scale.warp else resize_short_side(image, side, rounds)
        resized = middle(resized, side, side) if scale.square else resized
        for top, left, side in scale.boxes(*resized.shape[:2], size):
            crop = resized[top : top + side, left : left + side]
            crop = crop if side == size else resize(crop, size, size)
            views += [crop, crop[:, ::-1]] if member.protocol.flip else [crop]
    parts = np.array_split(np.stack(views), math.ceil(len(views) / CHUNK))  # of one size: compiled once
    last = np.concatenate([logits(member, part) for part in parts])
    return softmax(last).mean(0) if member.protocol.average == 'softmax' else softmax(last.mean(0))


def dense(member, image, rounds=half_up):
    """Each scale and its mirror image by itself; a mean over them."""
    total = []
    for scale in member.protocol.scales:
        if scale.boxes is not None:
            continue
        resized = resize_short_side(image, scale.short_side, rounds)
        for view in (resized, resized[:, ::-1]):
            flat = logits(member, view[None], True).reshape(-1, member.model.num_classes)
            first = {'space_first': lambda m: softmax(m.mean(0)), 'softmax_first': lambda m: softmax(m).mean(0)}
            total.append(first[scale.reduce](flat))
    return np.mean(total, 0)


def overfeat_fast(member, image, rounds=half_up):
    """OverFeat's fine stride (section 3.3): layer 5 pooled from four offsets, layers 6 to 8 at every window of each.

    Of each class the largest softmax over all of them, for each scale and mirror image; their mean.
    """
    parameters, total = jax.device_get(member.variables['params']), []
    for scale in member.protocol.scales:
        resized = resize_short_side(image, scale.short_side, rounds)
        long = max(resized.shape[:2])
        kept = max(range(23, long + 1, 32))  # then both offsets pool as many windows
        resized = middle(resized, *((scale.short_side, kept) if resized.shape[1] == long else (kept, scale.short_side)))
        for view in (resized, resized[:, ::-1]):
            run = forward(member.model, True, ('activations',))
            _, state = run(member.variables, pixels(member, view[None]))
            unpooled = np.asarray(state['activations']['layer5_conv'])[0]
            windows = []
            for down in range(2):
                for across in range(2):
                    rows, columns = (unpooled.shape[0] - down) // 2, (unpooled.shape[1] - across) // 2
                    cut = unpooled[down : down + 2 * rows, across : across + 2 * columns]
                    pooled = cut.reshape(rows, 2, columns, 2, -1).max((1, 3))
                    for row in range(rows - 5):
                        for column in range(columns - 5):
                            windows.append(pooled[row : row + 6, column : column + 6].ravel())
            x = np.stack(windows)
            for name in ('layer6', 'layer7', 'output'):
                kernel, bias = parameters[name]['kernel'], parameters[name]['bias']
                x = x @ kernel.reshape(-1, kernel.shape[-1]) + bias
                x = x if name == 'output' else np.maximum(x, 0)
            total.append(softmax(x).max(0))
    return np.mean(total, 0)
