"""Tests checkpoints as the papers did: `python evaluate.py --checkpoint runs/vgg_d --protocol vgg_both`.

The config is the one that lies with the checkpoint, or --config's; --config.KEY=VALUE overrides a key of either.
Several checkpoints are an ensemble, each with its own config and pixels, and with its own --protocol where several are
given. `docs/evaluation.md` has the protocols.
"""

from runtime import interrupts  # first: Ctrl-C is heard from here on

if __name__ == '__main__':
    interrupts.listen()

from runtime import command_line  # noqa: I001  (next: the clock starts with it)

import json
import os
import re
import sys
from pathlib import Path

from absl import flags

from runtime.errors import UserError
from runtime.files import write_atomically

CHECKPOINT = flags.DEFINE_multi_string('checkpoint', [], 'A workdir or one checkpoint; several are an ensemble.')
STEP = flags.DEFINE_string('step', 'best', "Of a workdir: 'best' by its test error, 'latest', or a step.")
PROTOCOL = flags.DEFINE_multi_string('protocol', [], 'How images are looked at: one, or one a checkpoint.')
AVERAGE = flags.DEFINE_enum('average', '', ['', 'softmax', 'logits'], "What is averaged, in place of the protocol's.")
TRIM = flags.DEFINE_bool('trim', False, 'In dense passes keep the middle of the long side, a multiple of 32.')
WEIGHTS = flags.DEFINE_list('weights', [], 'Of the members of an ensemble: 2,1.')
LABELS = flags.DEFINE_string(
    'labels', '', 'subset=own, subset=all, imagenet_v2, imagenet_a, imagenet_r, or real=FILE (real.json).'
)
TABLE = flags.DEFINE_string('table', '', "A paper's table, run on these checkpoints: vgg3 to vgg7, resnet3, ...")
WORST = flags.DEFINE_bool('worst', False, 'Also print the worst classes and the most confused pairs.')
OUTPUT = flags.DEFINE_string('output', None, 'Also write the result as JSON to this file.')
PREDICTIONS = flags.DEFINE_string('predictions', None, "Also write each image's best five classes, as CSV.")
SUBMISSION = flags.DEFINE_string('submission', None, 'Also write ILSVRC ids, best five first, a line an image.')
DEVKIT = flags.DEFINE_string('devkit', None, "The ILSVRC2012 devkit's folder, or its meta.mat, for --submission.")
command_line.define_processes()
RESUME = flags.DEFINE_bool('resume', False, 'Go on with an evaluation that was interrupted.')


def main():
    if not CHECKPOINT.value:
        raise UserError("no checkpoint: pass --checkpoint DIR, a run's workdir or one checkpoint")
    _check_flags()
    config, _ = command_line.load_config()
    import evaluation
    from evaluation import protocols, report, results, tables
    from input_pipeline import classes, labels
    from runtime import distributed
    from training import unread

    unread.refuse(config, *command_line.set_keys())
    some = LABELS.value in ('imagenet_a', 'imagenet_r') or LABELS.value.startswith('subset')
    if SUBMISSION.value and (config.num_classes != len(classes.NAMES) or some):
        raise UserError(
            "--submission is of ILSVRC's 1000 classes, and not all of them are asked for here: leave it out"
        )
    ids = labels.ilsvrc_ids(DEVKIT.value) if SUBMISSION.value else None
    protocols.refuse(PROTOCOL.value, command_line.overrides())
    trim = TRIM.value and not TABLE.value
    opened = evaluation.open_members(
        config, CHECKPOINT.value, STEP.value, PROTOCOL.value, AVERAGE.value, trim, WEIGHTS.value
    )
    if SUBMISSION.value and not all(classes.are_imagenet(entry.member.class_names) for entry in opened):
        raise UserError("--submission is of ILSVRC's 1000 classes, and the network has others: leave it out")
    partials = []
    if TABLE.value:
        rows = tables.plan(TABLE.value, opened)
        done = tables.run(rows, lambda number, members: _tested(config, members, partials, f'_{number}')[0], TRIM.value)
    else:
        result, rows, names = _tested(config, opened, partials)
    if not distributed.is_first():
        pass
    elif TABLE.value:
        print('\n'.join(tables.lines(TABLE.value, done)))
        _write_json(tables.values(done))
    else:
        print('\n'.join(report.lines(config, opened, result)))
        if WORST.value:
            print('\n'.join(report.worst(rows, names)))
        if PREDICTIONS.value:
            results.write_predictions(PREDICTIONS.value, rows, names)
        if SUBMISSION.value:
            results.write_submission(SUBMISSION.value, rows, ids)
        _write_json(result | results.details(rows, names))
    distributed.largest(0)  # the first process has put all in a safe place
    for partial in partials:
        Path(partial).unlink(missing_ok=True)
    return 0


def _check_flags():
    """What can be told before anything is read."""
    for path in (OUTPUT.value, PREDICTIONS.value, SUBMISSION.value):
        if path and not os.access(os.path.dirname(path) or '.', os.W_OK):
            raise UserError(f'{path} cannot be written: its folder is not there or not writable')
    if SUBMISSION.value and not DEVKIT.value:
        raise UserError("--submission needs ILSVRC's ids: pass --devkit, the ILSVRC2012 devkit's folder")
    for flag in (PROTOCOL, AVERAGE, WEIGHTS, PREDICTIONS, SUBMISSION, WORST):
        if TABLE.value and flag.value:
            raise UserError(f'--table runs the protocols of its rows: leave --{flag.name} out')


def _tested(config, opened, partials, suffix=''):
    """The result of `evaluation.test`, with a bar; where its rows are kept meanwhile is added to `partials`."""
    import evaluation
    from input_pipeline import datasets
    from input_pipeline.progress import bar
    from runtime import distributed

    partial = _partial(opened, suffix)
    partials += [partial] if partial else []
    source = datasets.open_split(config, config.test_split, any_classes=True)
    for note in source.notes if distributed.is_first() and suffix in ('', '_0') else ():
        print(f'note: {note}', file=sys.stderr)
    try:
        with interrupts.Raised() as interrupt, bar(opened[0].member.config.architecture, len(source)) as advance:

            def progress(amount=1):
                interrupt.check()
                advance(amount)

            return evaluation.test(
                config, *opened, labels=LABELS.value, partial=partial, resume=RESUME.value, progress=progress
            )
    except KeyboardInterrupt:
        print('interrupted' + ('; the same command with --resume goes on' if partial else ''), flush=True)
        raise


def _partial(opened, suffix):
    """Where the rows of an evaluation are kept until it is done: in the first member's workdir."""
    from runtime import distributed

    suffix += distributed.file_suffix()
    names = '+'.join(dict.fromkeys(entry.member.protocol.name for entry in opened)) + suffix
    place = opened[0].where.parent.parent / f'evaluation_{re.sub(r"[^0-9A-Za-z,]+", "_", names)}.partial'
    if os.access(place.parent, os.W_OK):
        return str(place)
    if RESUME.value:
        raise UserError(f'{place.parent} cannot be written: nothing of an interrupted evaluation is there')
    return ''


def _write_json(value):
    if OUTPUT.value:
        write_atomically(OUTPUT.value, json.dumps(value, indent=2) + '\n')


if __name__ == '__main__':
    command_line.run(main)
