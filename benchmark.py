"""Measure speed, compared with named peers: `python benchmark.py lenet5`, `architectures`, `input` or `evaluate`."""

from runtime import interrupts  # first, so that Ctrl-C is handled from here on

if __name__ == '__main__':
    interrupts.listen()

import argparse
import json
import math
import sys

from benchmarks import architectures, evaluate, input, lenet5, peers, timing, train
from configs import listing
from runtime import paths, system
from runtime.errors import Parser, UserError, one_line
from runtime.files import append, write_atomically


def main():
    parser = Parser(prog='benchmark.py', description=__doc__)
    parser.add_argument('benchmark', choices=['lenet5', 'architectures', 'train', 'input', 'evaluate'])
    parser.add_argument('--output', help='also write the result as JSON to this file; train appends one line per row')
    parser.add_argument('--rounds', type=int, default=5, help='timed rounds, of all but lenet5')
    group = parser.add_argument_group('architectures')
    group.add_argument(
        '--networks', default='', help='comma-separated names; all: those with a peer; also for evaluate'
    )
    group.add_argument('--phases', default='train,forward', help='comma-separated: train, forward, compile')
    group.add_argument('--batch', type=int, default=0, help='images per step; 0 for 8, and 16 for alexnet_owt')
    group.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16'])
    group.add_argument('--huge_pages', action=argparse.BooleanOptionalAction, default=True, help='for all processes')
    group = parser.add_argument_group('train, and --batch and --dtype')
    group.add_argument('--arch', default='resnet50', help='the recipe')
    group.add_argument(
        '--against', default='', choices=list(train.PEERS_OF), help='the same network with torch.compile, or eager'
    )
    group.add_argument('--size', type=int, default=224, help='side of the images')
    group.add_argument('--peak', type=float, help='FLOP/s of a device, for the utilization')
    group.add_argument(
        '--best_batch', action='store_true', help='double the batch from --batch on, separately on each side'
    )
    group.add_argument(
        '--loop_overhead',
        type=int,
        default=0,
        metavar='STEPS',
        help='the time that the training loop adds to its steps',
    )
    group = parser.add_argument_group('input, evaluate and train')
    group.add_argument('--data_dir', default='', help='a folder of photographs')
    parser.add_argument('--peer', help=argparse.SUPPRESS)  # run the process of this peer
    flags = parser.parse_args([paths.expanded(argument) for argument in sys.argv[1:]])
    system.check_platforms()
    modules = {'lenet5': lenet5, 'architectures': architectures, 'train': train, 'input': input, 'evaluate': evaluate}
    if flags.peer:
        step = modules[flags.benchmark].timed_function(flags.peer)
        return timing.interleave(*step) if isinstance(step, tuple) else timing.interleave(step)
    if flags.benchmark == 'train':
        return measure_training(parser, flags)
    networks = list(peers.PEERS) if flags.networks == 'all' else [n for n in flags.networks.split(',') if n]
    if flags.benchmark == 'lenet5':
        rows, setting = lenet5.run(), {}
    elif flags.benchmark == 'input':
        rows, setting = input.run(flags.data_dir, flags.rounds), {'rounds': flags.rounds}
    elif flags.benchmark == 'evaluate':
        rows, setting = evaluate.run(flags.data_dir, flags.rounds, networks), {'rounds': flags.rounds}
    else:
        setting = {'dtype': flags.dtype, 'huge_pages': flags.huge_pages, 'rounds': flags.rounds}
        rows = architectures.run(
            networks, flags.phases.split(','), flags.rounds, flags.batch, flags.dtype, flags.huge_pages
        )
    finished = []
    for row in rows:
        print(describe(row), flush=True)
        finished.append(row)
    if flags.benchmark in ('input', 'evaluate') and not networks:
        resident, peak = modules[flags.benchmark].memory(flags.data_dir)
        finished.append({'name': 'memory', 'resident_mb': resident, 'peak_mb': peak})
        print(
            f'memory over {resident[-1][0]:,} images: {resident[0][1]:,.0f} MB after {resident[0][0]:,}, '
            f'{resident[-1][1]:,.0f} MB at the end, peak {peak:,.0f} MB'
        )
    if flags.output:
        result = {'benchmark': flags.benchmark, **setting, **timing.machine(), 'rows': finished}
        write_atomically(flags.output, json.dumps(result, indent=2) + '\n')
    return 0


def measure_training(parser, flags):
    """Print a line of text and a line of JSON for each row, and append the JSON to --output."""
    if flags.arch not in listing.names():
        parser.error(f'no recipe {flags.arch!r}: `python -m configs` lists them')
    if flags.against and (flags.arch not in peers.PEERS or not timing.version('torch')):
        parser.error(
            f'{flags.arch} has no peer: PyTorch is not installed (requirements-reference.txt) or lacks the network'
        )
    batch, load = flags.batch or 16, timing.load()
    if load > 0.5:
        print(f'other processes are running ({load:.1f} per core): the results are not reliable', file=sys.stderr)
    if flags.loop_overhead:
        rows = train.loop_overhead(flags.arch, batch, flags.size, flags.dtype, flags.loop_overhead)
    else:
        rows = train.run(
            flags.arch, flags.against, batch, flags.size, flags.dtype, flags.data_dir, flags.rounds, flags.peak,
            flags.best_batch, flags.huge_pages,
        )  # fmt: skip
    for row in rows:
        line = json.dumps({**row, 'load_before': load, **timing.machine()})
        print(f'{describe(row)}\n{line}', flush=True)
        if flags.output:
            append(flags.output, f'{line}\n')
    return 0


def describe(row):
    """Return a row as a line of text."""
    if 'images_per_second' in row:
        ratios = [
            f'{value["ratio"]:.2f} [{value["range"][0]:.2f} to {value["range"][1]:.2f}] of {peer}'
            for peer, value in row.items()
            if isinstance(value, dict) and peer != row['name']
        ]
        return '; '.join([f'{row["name"]}: {_rate(row["images_per_second"])} images/s', *ratios])
    if 'ours' not in row:
        return f'{row["name"]}: ratio {row["ratio"]:.2f}, the lowest {row["lowest"]:.2f}'
    comparison = ''
    if row['peer'] is not None:
        low, high = row['range']
        comparison = f', {row["peer_name"]} {row["peer"]:,.1f}: ratio {row["ratio"]:.2f} [{low:.2f} to {high:.2f}]'
    first = f'; first call {row["first_call_seconds"]:.0f} s' if 'first_call_seconds' in row else ''
    if 'compile_seconds' in row:
        first = f'; batch {row["batch"]}, compiled in {row["compile_seconds"]:.0f} s, '
        first += f'peak memory of the {row["peak_of"]} {row["peak_bytes"] / 1e9:.2f} GB'
        first += f', {100 * row["utilisation"]:.1f}% of the peak FLOP/s' if row['utilisation'] else ''
    return f'{row["name"]}: {row["ours"]:,.1f} {row["unit"]}{comparison}{first}'


def _rate(images_per_second):
    """Format a rate with at least three digits."""
    return f'{images_per_second:,.{max(0, 2 - int(math.log10(images_per_second)))}f}'


if __name__ == '__main__':
    try:
        sys.exit(main() or (2 if interrupts.output_failed() else 0))
    except (UserError, OSError) as error:
        print(f'benchmark.py: error: {one_line(error)}', file=sys.stderr)
        sys.exit(2)
