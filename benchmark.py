"""Speed beside a named peer, in one run: `python benchmark.py lenet5`, `architectures`, `input` or `evaluate`."""

import argparse
import json
import math
import sys

from benchmarks import architectures, contest, evaluate, input, lenet5, peers, train
from configs import listing
from runtime import paths
from runtime.errors import Parser, UserError
from runtime.files import write_atomically


def main():
    parser = Parser(prog='benchmark.py', description=__doc__)
    parser.add_argument('benchmark', choices=['lenet5', 'architectures', 'train', 'input', 'evaluate'])
    parser.add_argument('--output', help='also write the result as JSON to this file; train appends a line a row')
    parser.add_argument('--rounds', type=int, default=5, help='of all but lenet5')
    group = parser.add_argument_group('architectures')
    group.add_argument('--networks', default='', help='names, comma between; all: those with a peer; also of evaluate')
    group.add_argument('--phases', default='train,forward', help='of train, forward, compile')
    group.add_argument('--batch', type=int, default=0, help='images a step; 0 is 8, and 16 for alexnet_owt')
    group.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16'])
    group.add_argument('--huge_pages', action=argparse.BooleanOptionalAction, default=True, help='for all contestants')
    group = parser.add_argument_group('train, and --batch and --dtype')
    group.add_argument('--arch', default='resnet50', help='the recipe')
    group.add_argument(
        '--against', default='', choices=list(train.PEERS_OF), help='the same network under torch.compile, or eager'
    )
    group.add_argument('--size', type=int, default=224, help='side of the images')
    group.add_argument('--peak', type=float, help='FLOP/s of a device, for the utilisation')
    group.add_argument('--best_batch', action='store_true', help='double the batch from --batch on, each side its own')
    group.add_argument('--loop_overhead', type=int, default=0, metavar='STEPS', help='what the loop adds to its steps')
    group = parser.add_argument_group('input, evaluate and train')
    group.add_argument('--data_dir', default='', help='a folder of photographs')
    parser.add_argument('--contestant', help=argparse.SUPPRESS)  # the process that runs one of them
    flags = parser.parse_args([paths.expanded(argument) for argument in sys.argv[1:]])
    modules = {'lenet5': lenet5, 'architectures': architectures, 'train': train, 'input': input, 'evaluate': evaluate}
    if flags.contestant:
        found = modules[flags.benchmark].contestant(flags.contestant)
        return contest.take_turns(*found) if isinstance(found, tuple) else contest.take_turns(found)
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
    done = []
    for row in rows:
        print(describe(row), flush=True)
        done.append(row)
    if flags.benchmark in ('input', 'evaluate') and not networks:
        seen, peak = modules[flags.benchmark].memory(flags.data_dir)
        done.append({'name': 'memory', 'resident_mb': seen, 'peak_mb': peak})
        print(
            f'memory over {seen[-1][0]:,} images: {seen[0][1]:,.0f} MB after {seen[0][0]:,}, '
            f'{seen[-1][1]:,.0f} MB at the end, peak {peak:,.0f} MB'
        )
    if flags.output:
        result = {'benchmark': flags.benchmark, **setting, **contest.machine(), 'rows': done}
        write_atomically(flags.output, json.dumps(result, indent=2) + '\n')
    return 0


def measure_training(parser, flags):
    """Prints a line of text and one of JSON for each row, and appends the latter to --output."""
    if flags.arch not in listing.names():
        parser.error(f'no recipe {flags.arch!r}: `python -m configs` lists them')
    if flags.against and (flags.arch not in peers.PEERS or not contest.version('torch')):
        parser.error(f'{flags.arch} has no peer here: PyTorch is missing (requirements-reference.txt), or has none')
    batch, load = flags.batch or 16, contest.load()
    if load > 0.5:
        print(f'other processes are running ({load:.1f} a core): the figures are not to be trusted', file=sys.stderr)
    if flags.loop_overhead:
        rows = train.loop_overhead(flags.arch, batch, flags.size, flags.dtype, flags.loop_overhead)
    else:
        rows = train.run(
            flags.arch, flags.against, batch, flags.size, flags.dtype, flags.data_dir, flags.rounds, flags.peak,
            flags.best_batch, flags.huge_pages,
        )  # fmt: skip
    for row in rows:
        line = json.dumps({**row, 'load_before': load, **contest.machine()})
        print(f'{describe(row)}\n{line}', flush=True)
        if flags.output:
            with open(flags.output, 'a') as file:
                file.write(f'{line}\n')
    return 0


def describe(row):
    """A row as a line of text."""
    if 'images_per_second' in row:
        beside = [
            f'{value["ratio"]:.2f} [{value["range"][0]:.2f} to {value["range"][1]:.2f}] of {peer}'
            for peer, value in row.items()
            if isinstance(value, dict) and peer != row['name']
        ]
        return '; '.join([f'{row["name"]}: {_rate(row["images_per_second"])} images/s', *beside])
    if 'ours' not in row:
        return f'{row["name"]}: ratio {row["ratio"]:.2f}, the lowest {row["lowest"]:.2f}'
    beside = ''
    if row['peer'] is not None:
        low, high = row['range']
        beside = f', {row["peer_name"]} {row["peer"]:,.1f}: ratio {row["ratio"]:.2f} [{low:.2f} to {high:.2f}]'
    first = f'; first call {row["first_call_seconds"]:.0f} s' if 'first_call_seconds' in row else ''
    if 'compile_seconds' in row:
        first = f'; batch {row["batch"]}, compiled in {row["compile_seconds"]:.0f} s, '
        first += f'peak memory of the {row["peak_of"]} {row["peak_bytes"] / 1e9:.2f} GB'
        first += f', {100 * row["utilisation"]:.1f}% of the peak FLOP/s' if row['utilisation'] else ''
    return f'{row["name"]}: {row["ours"]:,.1f} {row["unit"]}{beside}{first}'


def _rate(images_per_second):
    """In three digits, at least."""
    return f'{images_per_second:,.{max(0, 2 - int(math.log10(images_per_second)))}f}'


if __name__ == '__main__':
    try:
        sys.exit(main())
    except UserError as error:
        print(f'benchmark.py: error: {error}', file=sys.stderr)
        sys.exit(2)
