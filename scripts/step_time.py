"""Estimate strong scaling: the time of a training step on 8 to 1,024 chips, and the storage bandwidth it needs.

    python scripts/step_time.py --network resnet50 --batch 8192 --chip v5e
    python scripts/step_time.py --costs --chip v5e

Everything is computed from published figures and from assumptions, which are flags; nothing is measured. A step is
computation, followed by the all-reduce of the gradients over all chips:

    compute     images per chip x multiply-adds x 2 FLOPs x 3 (forward once, backward twice) / (peak x fraction)
    all-reduce  2 (n - 1) / n x bytes of the gradient / bandwidth, and a latency for each hop there and back
    step        compute + all-reduce - the part of it that overlaps with the backward pass

The all-reduce uses all dimensions of a torus at once, on bidirectional links. Beyond a slice, each chip sums its part
of the gradient with its counterparts in the other slices, over the network between them. Not modeled: memory-bound
layers (lower the fraction for them), the lower fraction with few images per chip, the memory of a chip, small slices of
a pod whose torus has no wraparound links, the sums of batch norm, auxiliary heads, and the input.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runtime import interrupts  # before the slow imports

if __name__ == '__main__':
    interrupts.listen('list')

import jax

from architectures import describe
from runtime.errors import Parser, UserError, nearest, one_line

# One network per family; for ResNets the cheap one and the deep one.
FLAGSHIPS = (
    'alexnet', 'vgg_d', 'googlenet', 'resnet50', 'resnet152', 'densenet121', 'se_resnet50', 'resnext50_32x4d',
)  # fmt: skip
CHIPS = (8, 16, 32, 64, 128, 256, 512, 1024)
TRAIN_IMAGES = 1_281_167  # ILSVRC 2012


class Chip(NamedTuple):
    """The published figures of a chip.

    Fields:
      source: source of the figures.
      peak: bfloat16 TFLOP/s, dense.
      bandwidth: GB/s that a chip sends over all links of its slice together, one way.
      dimensions: dimensions of the torus, each a ring; 1 if a switch connects all chips, which then form a ring.
      slice: maximum number of chips that these links connect.
      network_bandwidth: GB/s per chip between slices, one way; 0 if a slice is larger than we need.
      cores: cores per chip.
      host: chips per host.
    """

    source: str
    peak: float
    bandwidth: float
    dimensions: int
    slice: int
    network_bandwidth: float
    cores: int
    host: int


PRESETS = {
    'v4': Chip(
        'Google Cloud documentation, TPU v4: 275 TFLOP/s, 4,096 chips; Jouppi et al. 2023: six links of 50 GB/s',
        275, 300, 3, 4096, 0, 2, 4,
    ),
    'v5e': Chip(
        'Google Cloud documentation, TPU v5e: 197 TFLOP/s, 400 GB/s both ways, 2D, 256 chips; '
        '6.4 Tb/s a pod between pods',
        197, 200, 2, 256, 3.125, 1, 8,
    ),
    'v5p': Chip(
        'Google Cloud documentation, TPU v5p: 459 TFLOP/s, 1,200 GB/s both ways, 3D, jobs of up to 6,144 chips; '
        '50 Gb/s a chip between slices',
        459, 600, 3, 6144, 6.25, 2, 4,
    ),
    'v6e': Chip(
        'Google Cloud documentation, TPU v6e: 918 TFLOP/s, 800 GB/s both ways, 2D, 256 chips; '
        '25.6 Tb/s a pod between pods',
        918, 400, 2, 256, 12.5, 1, 8,
    ),
    'h100': Chip(
        'NVIDIA, H100 SXM: 989 TFLOP/s without sparsity, NVLink 900 GB/s both ways, 8 GPUs a node; DGX H100: '
        '400 Gb/s InfiniBand a GPU',
        989, 450, 1, 8, 50, 1, 8,
    ),
}  # fmt: skip


def sides(chips, dimensions):
    """Return the sides of a torus with `chips` chips, as equal as possible, the longest first."""
    lengths, rest, factor = [1] * dimensions, chips, 2
    factors = []
    while rest > 1:
        while rest % factor == 0:
            factors.append(factor)
            rest //= factor
        factor += 1
    for factor in reversed(factors):
        lengths[lengths.index(min(lengths))] *= factor
    return sorted(lengths, reverse=True)


def bytes_moved(size, chips):
    """Return the bytes that each chip sends to all-reduce `size` bytes over a ring: reduce-scatter, then all-gather."""
    return 2 * (chips - 1) / chips * size


def all_reduce_seconds(size, chips, bandwidth, dimensions, slice_size, network_bandwidth, latency):
    """Return the seconds to sum `size` bytes over all chips; `latency` is in seconds per hop, for the rest see `Chip`.

    Raises:
      UserError: if more than one slice is needed, and the chips do not fill slices or no network connects them.
    """
    inside = min(chips, slice_size)
    slices = chips // inside
    if slices * inside != chips:
        raise UserError(f'{chips} chips are not a multiple of a slice of {slice_size}')
    if slices > 1 and not network_bandwidth:
        raise UserError(f'{chips} chips are {slices} slices of {slice_size}: pass --network_bandwidth')
    torus = sides(inside, dimensions)
    links = bandwidth * 1e9 * sum(side > 1 for side in torus) / dimensions  # a side of 1 has no neighbor to send to
    hops = 2 * sum(side - 1 for side in torus) + 2 * (slices - 1)
    seconds = hops * latency
    if inside > 1:
        seconds += bytes_moved(size, inside) / links
    if slices > 1:
        seconds += bytes_moved(size / inside, slices) / (network_bandwidth * 1e9)
    return seconds


class Step(NamedTuple):
    """A step: images per chip, and times in seconds."""

    images: float
    compute: float
    all_reduce: float
    seconds: float


def step(network, chips, batch, flags):
    """Return the `Step` of a network, an entry of `describe.networks`, with `batch` images on all chips together."""
    images = batch / chips
    compute = images * network['multiply_adds'] * 2 * 3 / (flags.peak * 1e12 * flags.fraction)
    size = network['parameters'] * flags.gradient_bytes
    reduce = all_reduce_seconds(
        size, chips, flags.bandwidth, flags.dimensions, flags.slice, flags.network_bandwidth, flags.latency * 1e-6
    )
    hidden = min(flags.overlap * reduce, compute * 2 / 3)  # at most the backward pass
    return Step(images, compute, reduce, compute + reduce - hidden)


def scaling(network, flags):
    """Return the rows of strong scaling, (chips, step, images/s, efficiency), and the numbers of chips left out."""
    divisors = [chips for chips in flags.chips if flags.batch % chips == 0]
    if not divisors:
        numbers = ', '.join(map(str, flags.chips))
        raise UserError(f'a batch of {flags.batch} cannot be divided evenly among {numbers} chips')
    single_chip = step(network, 1, flags.batch, flags).seconds
    rows = []
    for chips in divisors:
        timed = step(network, chips, flags.batch, flags)
        rows.append((chips, timed, flags.batch / timed.seconds, single_chip / (chips * timed.seconds)))
    return rows, [chips for chips in flags.chips if chips not in divisors]


def costs(networks, chips, flags):
    """Return the rows of costs: (name, step, images/s per host, bytes/s per host, seconds per epoch)."""
    batch = flags.images_per_core * flags.cores * chips
    hosts = max(1, chips / flags.host)
    rows = []
    for network in networks:
        timed = step(network, chips, batch, flags)
        rate = batch / timed.seconds
        rows.append((network['name'], timed, rate / hosts, rate / hosts * flags.image_kb * 1e3, TRAIN_IMAGES / rate))
    return rows


# The command line


def _number(kind, low, high=math.inf, zero=False):
    """Return a type for argparse: a number above `low` (or equal, with `zero`), up to `high`."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f'{text!r} is not a number') from None
        if not (low <= value if zero else low < value) or value > high:
            limit = f' and at most {high}' if high < math.inf else ''
            raise argparse.ArgumentTypeError(f'{text} is not {"at least" if zero else "above"} {low}{limit}')
        return value

    return parse


def _counts(text):
    return tuple(_number(int, 0)(part) for part in text.split(','))


def _arguments():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--network', default='resnet50', help='a name of `python -m architectures` (resnet50)')
    parser.add_argument('--batch', type=_number(int, 0), default=8192, help='images per step, on all chips (8192)')
    parser.add_argument('--chips', type=_counts, help='comma-separated (8,16,...,1024; with --costs, one: 256)')
    parser.add_argument('--chip', default='v5e', help=f'the chip whose figures are used: {", ".join(PRESETS)} (v5e)')
    group = parser.add_argument_group('figures of a chip, in place of those of --chip')
    group.add_argument('--peak', type=_number(float, 0), help='TFLOP/s in bfloat16')
    group.add_argument('--bandwidth', type=_number(float, 0), help='GB/s that a chip sends over all links of its slice')
    group.add_argument('--dimensions', type=_number(int, 0), help='dimensions of the torus; 1 is a ring')
    group.add_argument('--slice', type=_number(int, 0), help='maximum number of chips that these links connect')
    group.add_argument('--network_bandwidth', type=_number(float, 0, zero=True), help='GB/s per chip between slices')
    group = parser.add_argument_group('assumptions')
    group.add_argument(
        '--fraction', type=_number(float, 0, 1), default=0.4, help='fraction of the peak that is reached (0.4)'
    )
    group.add_argument(
        '--gradient_bytes', type=_number(float, 0), default=4, help='bytes per element of the gradient (4, float32)'
    )
    group.add_argument('--latency', type=_number(float, 0, zero=True), default=1, help='microseconds per hop (1)')
    group.add_argument(
        '--overlap',
        type=_number(float, 0, 1, zero=True),
        default=0,
        help='fraction of the all-reduce that can overlap (0)',
    )
    group = parser.add_argument_group('costs')
    group.add_argument('--costs', action='store_true', help='the storage bandwidth that several networks need')
    group.add_argument('--networks', default=','.join(FLAGSHIPS), help="comma-separated (each family's flagship)")
    group.add_argument('--images_per_core', type=_number(int, 0), default=32, help='images per core and step (32)')
    group.add_argument('--cores', type=_number(int, 0), help='cores per chip (of --chip)')
    group.add_argument('--host', type=_number(int, 0), help='chips per host (of --chip)')
    group.add_argument('--image_kb', type=_number(float, 0), default=110, help='mean kB per image (110, JPEG)')
    return parser


def _parse(argv):
    flags = _arguments().parse_args(argv)
    if flags.chip not in PRESETS:
        raise UserError(f'no chip {flags.chip!r}{nearest(flags.chip, PRESETS)} There are: {", ".join(PRESETS)}.')
    for field in Chip._fields[1:]:
        if getattr(flags, field) is None:
            setattr(flags, field, getattr(PRESETS[flags.chip], field))
    return flags


def _network(name):
    if any(wildcard in name for wildcard in '*?['):
        raise UserError(f'{name!r} is a pattern: name one network')
    return next(describe.networks(name))


def _show(heads, rows):
    """Print a table: the first column left-aligned, numbers right-aligned."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print('  '.join(cells).rstrip())


def _show_scaling(flags):
    network = _network(flags.network)
    rows, left_out = scaling(network, flags)
    parameters, multiply_adds = network['parameters'], network['multiply_adds']
    print(
        f'{network["name"]}: {parameters:,} parameters, {multiply_adds:,} multiply-adds per image; '
        f'batch {flags.batch:,}'
    )
    _print_assumptions(flags)
    _show(
        ('chips', 'images/chip', 'compute ms', 'all-reduce ms', 'step ms', 'images/s', 'efficiency'),
        [
            (
                f'{chips:,}', f'{timed.images:,.0f}', f'{timed.compute * 1e3:,.2f}', f'{timed.all_reduce * 1e3:,.2f}',
                f'{timed.seconds * 1e3:,.2f}', f'{rate:,.0f}', f'{efficiency:.1%}',
            )
            for chips, timed, rate, efficiency in rows
        ],
    )  # fmt: skip
    if left_out:
        print(f'left out, because the batch is not divisible: {", ".join(f"{chips:,}" for chips in left_out)}')


def _show_costs(flags):
    chips = flags.chips or (256,)
    if len(chips) > 1:
        raise UserError('--costs takes one number of chips')
    networks = [_network(name) for name in flags.networks.split(',')]
    rows = costs(networks, chips[0], flags)
    batch = flags.images_per_core * flags.cores * chips[0]
    print(
        f'{chips[0]:,} chips, {flags.host} per host, {flags.images_per_core} images per core: batch {batch:,}; '
        f'{flags.image_kb:g} kB per image'
    )
    _print_assumptions(flags)
    _show(
        ('network', 'compute ms', 'all-reduce ms', 'steps/s', 'images/s/host', 'MB/s/host', 'epoch s'),
        [
            (
                name, f'{timed.compute * 1e3:,.2f}', f'{timed.all_reduce * 1e3:,.2f}', f'{1 / timed.seconds:,.1f}',
                f'{images:,.0f}', f'{size / 1e6:,.0f}', f'{epoch:,.1f}',
            )
            for name, timed, images, size, epoch in rows
        ],
    )  # fmt: skip


def _print_assumptions(flags):
    between = f', {flags.network_bandwidth:g} GB/s between' if flags.network_bandwidth else ''
    print(
        f'computed, not measured: {flags.chip}, {flags.fraction:g} of {flags.peak:g} TFLOP/s, '
        f'{flags.gradient_bytes:g} bytes per gradient element, overlap {flags.overlap:g};\n'
        f'{flags.dimensions}D slices of up to {flags.slice:,} chips at {flags.bandwidth:g} GB/s{between}, '
        f'{flags.latency:g} us per hop\n'
    )


def main(argv=None):
    """Print the requested table; return 0, or 2 after a user error."""
    try:
        flags = _parse(argv)
        jax.config.update('jax_platforms', 'cpu')  # networks are only traced: leave the accelerator to others
        if flags.costs:
            _show_costs(flags)
        else:
            flags.chips = flags.chips or CHIPS
            _show_scaling(flags)
    except UserError as error:
        print(f'step_time.py: error: {one_line(error)}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main() or (2 if interrupts.output_failed() else 0))
