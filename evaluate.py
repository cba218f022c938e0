"""Tests checkpoints as the papers did: `python evaluate.py --checkpoint runs/vgg_d --protocol vgg_both`.

The config is the one stored with the checkpoint, or --config; --config.KEY=VALUE overrides a key of either. Several
checkpoints form an ensemble: each has its own config and pixels, and its own --protocol if several are given.
`docs/evaluation.md` describes the protocols.
"""

from runtime import interrupts  # first, so that Ctrl-C is handled from here on

if __name__ == '__main__':
    interrupts.listen()

from runtime import command_line  # noqa: I001  (second: it starts the clock)

import json
import os
import re
import sys
from pathlib import Path

from absl import flags

from runtime.errors import UserError
from runtime.files import check, write_atomically
from runtime.text import say

CHECKPOINT = flags.DEFINE_multi_string('checkpoint', [], 'A workdir or a single checkpoint; several form an ensemble.')
STEP = flags.DEFINE_string('step', 'best', "Which checkpoint of a workdir: 'best' by test error, 'latest', or a step.")
PROTOCOL = flags.DEFINE_multi_string('protocol', [], 'The test protocol: one, or one per checkpoint.')
AVERAGE = flags.DEFINE_enum(
    'average', '', ['', 'softmax', 'logits'], "What to average; default: the protocol's choice."
)
TRIM = flags.DEFINE_bool('trim', False, 'In dense passes, keep the middle of the long side, a multiple of 32.')
WEIGHTS = flags.DEFINE_list('weights', [], 'Weights of the members of an ensemble, as in 2,1.')
LABELS = flags.DEFINE_string(
    'labels',
    '',
    'subset=own, subset=all, imagenet_v2, imagenet_a, imagenet_r, imagenet_sketch, or real=FILE (real.json).',
)
TABLE = flags.DEFINE_string('table', '', "A paper's table to run on these checkpoints: vgg3 to vgg7, resnet3, ...")
CLEAN_ERROR = flags.DEFINE_float(
    'clean_error', None, 'For the relative mCE of ImageNet-C: the top-1 error on the clean images, in percent.', 0, 100
)
WORST = flags.DEFINE_bool('worst', False, 'Also print the worst classes and the most confused pairs.')
OUTPUT = flags.DEFINE_string('output', None, 'Also write the result as JSON to this file.')
PREDICTIONS = flags.DEFINE_string('predictions', None, "Also write each image's best five classes, as CSV.")
SUBMISSION = flags.DEFINE_string('submission', None, 'Also write ILSVRC ids, best five first, one line per image.')
DEVKIT = flags.DEFINE_string('devkit', None, "The ILSVRC2012 devkit's folder, or its meta.mat, for --submission.")
command_line.define_processes()
RESUME = flags.DEFINE_bool('resume', False, 'Continue an interrupted evaluation.')


def main():
    if not CHECKPOINT.value:
        raise UserError("no checkpoint: pass --checkpoint DIR, a run's workdir or a single checkpoint")
    _check_flags()
    config, _ = command_line.load_config()
    import evaluation
    from evaluation import corruptions, protocols, report, results, tables
    from evaluation.checkpoint import view_of
    from input_pipeline import classes, labels
    from runtime import distributed
    from training import unread

    unread.refuse(config, *command_line.set_keys())
    corrupted = corruptions.find(config.data_dir) if corruptions.is_complete(config) else ()
    _check_corruptions(corrupted)
    is_subset = LABELS.value in ('imagenet_a', 'imagenet_r') or LABELS.value.startswith('subset')
    if SUBMISSION.value and (config.num_classes != len(classes.NAMES) or is_subset):
        raise UserError("--submission needs all of ILSVRC's 1000 classes, and these are fewer: leave it out")
    ids = labels.ilsvrc_ids(DEVKIT.value) if SUBMISSION.value else None
    protocols.refuse([view_of(config, name) for name in PROTOCOL.value or ['single']], command_line.overrides())
    trim = TRIM.value and not TABLE.value
    checkpoints = evaluation.open_members(
        config, CHECKPOINT.value, STEP.value, PROTOCOL.value, AVERAGE.value, trim, WEIGHTS.value
    )
    if SUBMISSION.value and not all(classes.are_imagenet(checkpoint.member.class_names) for checkpoint in checkpoints):
        raise UserError("--submission needs ILSVRC's 1000 classes, and the network has others: leave it out")
    partials = []
    if TABLE.value:
        planned = tables.plan(TABLE.value, checkpoints)
        table = tables.run(
            planned, lambda number, members: _evaluate(config, members, partials, f'_{number}')[0], TRIM.value
        )
    elif corrupted:
        result = _evaluate_corruptions(config, checkpoints, corrupted, partials)
    else:
        result, rows, names = _evaluate(config, checkpoints, partials)
    if not distributed.is_first():
        pass
    elif TABLE.value:
        print('\n'.join(tables.lines(TABLE.value, table)))
        _write_json(tables.values(table))
    elif corrupted:
        say(*corruptions.lines(config, checkpoints, result))
        _write_json(result)
    else:
        say(*report.lines(config, checkpoints, result))
        if WORST.value:
            say(*report.worst(rows, names))
        if PREDICTIONS.value:
            results.write_predictions(PREDICTIONS.value, rows, names)
        if SUBMISSION.value:
            results.write_submission(SUBMISSION.value, rows, ids)
        _write_json(result | results.details(rows, names))
    distributed.largest(0)  # wait until the first process has saved the result
    for partial in partials:
        Path(partial).unlink(missing_ok=True)
    return 0


def _check_flags():
    """Check the flags before any file is read."""
    for path in (OUTPUT.value, PREDICTIONS.value, SUBMISSION.value):
        if path:
            check(path)
    if SUBMISSION.value and not DEVKIT.value:
        raise UserError("--submission needs ILSVRC's ids: pass --devkit DIR, the ILSVRC2012 devkit's folder")
    for flag in (PROTOCOL, AVERAGE, WEIGHTS, PREDICTIONS, SUBMISSION, WORST):
        if TABLE.value and flag.value:
            raise UserError(f'--table uses the protocols of its rows: leave --{flag.name} out')


def _check_corruptions(parts):
    """Check the flags that do not go with all of ImageNet-C, or only with it, and say what is missing of it."""
    from evaluation import corruptions
    from runtime import distributed

    if not parts and CLEAN_ERROR.value is not None:
        raise UserError('--clean_error is for all of ImageNet-C (--config.dataset=imagenet_c): leave it out')
    for flag in (TABLE, PREDICTIONS, SUBMISSION, WORST):
        if parts and flag.value:
            raise UserError(
                f'ImageNet-C is 75 tests: leave --{flag.name} out, or name one of them, as in --config.test_split=fog/3'
            )
    missing = corruptions.missing(parts) if parts else ''
    if missing and distributed.is_first():
        say(f'note: no mean corruption error (mCE), because these are missing: {missing}', file=sys.stderr)


def _evaluate_corruptions(config, checkpoints, parts, partials):
    """Return the result of the checkpoints on the parts of ImageNet-C."""
    from evaluation import corruptions

    def evaluate(number, part_config, scorer):
        return _evaluate(part_config, checkpoints, partials, f'_{number}', part_config.test_split, scorer)[0]

    return corruptions.summary(corruptions.run(config, checkpoints, parts, evaluate), CLEAN_ERROR.value)


def _evaluate(config, checkpoints, partials, suffix='', part='', scorer=None):
    """Call `evaluation.evaluate` with a progress bar, and add the file of its finished rows to `partials`.

    Args:
      suffix: of the name of that file.
      part: name of the part, for the progress bar.
      scorer: see `evaluation.evaluate`.
    """
    import evaluation
    from input_pipeline import datasets
    from input_pipeline.progress import bar
    from runtime import distributed

    partial = _partial(checkpoints, suffix)
    partials += [partial] if partial else []
    source = datasets.open_split(config, config.test_split, any_classes=True)
    for note in source.notes if distributed.is_first() and suffix in ('', '_0') else ():
        say(f'note: {note}', file=sys.stderr)
    try:
        title = f'{checkpoints[0].member.config.architecture} {part}'.strip()
        with interrupts.Raised() as interrupt, bar(title, len(source)) as advance:

            def progress(amount=1):
                interrupt.check()
                advance(amount)

            return evaluation.evaluate(
                config,
                *checkpoints,
                labels=LABELS.value,
                partial=partial,
                resume=RESUME.value,
                progress=progress,
                scorer=scorer,
            )
    except KeyboardInterrupt:
        print('interrupted' + ('; the same command with --resume continues' if partial else ''), flush=True)
        raise


def _partial(checkpoints, suffix):
    """Return the path for the finished rows of an evaluation, in the first member's workdir; '' if it is read-only."""
    from runtime import distributed

    suffix += distributed.file_suffix()
    names = '+'.join(dict.fromkeys(checkpoint.member.protocol.name for checkpoint in checkpoints)) + suffix
    path = checkpoints[0].where.parent.parent / f'evaluation_{re.sub(r"[^0-9A-Za-z,]+", "_", names)}.partial'
    if os.access(path.parent, os.W_OK):
        return str(path)
    if RESUME.value:
        raise UserError(f'{path.parent} cannot be written: it holds no interrupted evaluation to resume')
    return ''


def _write_json(value):
    if OUTPUT.value:
        write_atomically(OUTPUT.value, json.dumps(value, indent=2) + '\n')


if __name__ == '__main__':
    command_line.run(main)
