"""Tests checkpoints as the papers did: `python evaluate.py --checkpoint runs/vgg_d --protocol vgg_both`.

The config is the one that lies with the checkpoint, or --config's; --config.KEY=VALUE overrides a key of either.
Several checkpoints are an ensemble, each with its own config and pixels, and with its own --protocol where several are
given. `docs/evaluation.md` has the protocols.
"""

import command_line  # noqa: I001

import json
import os
import re
from pathlib import Path

from absl import flags

from errors import UserError

CHECKPOINT = flags.DEFINE_multi_string('checkpoint', [], 'A workdir or one checkpoint; several are an ensemble.')
STEP = flags.DEFINE_string('step', 'best', "Of a workdir: 'best' by its test error, 'latest', or a step.")
PROTOCOL = flags.DEFINE_multi_string('protocol', [], 'How images are looked at: one, or one a checkpoint.')
AVERAGE = flags.DEFINE_enum('average', '', ['', 'softmax', 'logits'], "What is averaged, in place of the protocol's.")
TRIM = flags.DEFINE_bool('trim', False, 'In dense passes keep the middle of the long side, a multiple of 32.')
WEIGHTS = flags.DEFINE_list('weights', [], 'Of the members of an ensemble: 2,1.')
LABELS = flags.DEFINE_string('labels', '', 'imagenet_v2, imagenet_a, imagenet_r, or real=FILE (real.json).')
TABLE = flags.DEFINE_string('table', '', "A paper's table, run on these checkpoints: vgg3 to vgg6, googlenet3, ...")
WORST = flags.DEFINE_bool('worst', False, 'Also print the worst classes and the most confused pairs.')
OUTPUT = flags.DEFINE_string('output', None, 'Also write the result as JSON to this file.')
PREDICTIONS = flags.DEFINE_string('predictions', None, "Also write each image's best five classes, as CSV.")
SUBMISSION = flags.DEFINE_string('submission', None, 'Also write ILSVRC ids, best five first, a line an image.')
DEVKIT = flags.DEFINE_string('devkit', None, "The ILSVRC2012 devkit's folder, or its meta.mat, for --submission.")
RESUME = flags.DEFINE_bool('resume', False, 'Go on with an evaluation that was interrupted.')


def main():
    if not CHECKPOINT.value:
        raise UserError("no checkpoint: pass --checkpoint DIR, a run's workdir or one checkpoint")
    _check_flags()
    config, _ = command_line.load_config()
    from evaluation import classes, report, results

    ids = classes.ilsvrc_ids(DEVKIT.value) if SUBMISSION.value else None
    opened = _opened(config)
    if TABLE.value:
        return _table(config, opened)
    partial = _partial(opened)
    try:
        result, rows, names = _tested(config, opened, partial)
    except KeyboardInterrupt:
        print('interrupted: the same command with --resume goes on', flush=True)
        raise
    print('\n'.join(report.lines(config, opened, result)))
    if WORST.value:
        print('\n'.join(report.worst(rows, names)))
    if PREDICTIONS.value:
        results.write_predictions(PREDICTIONS.value, rows, names)
    if SUBMISSION.value:
        results.write_submission(SUBMISSION.value, rows, ids)
    result['classes'] = [
        {'class': label, 'name': name, 'num_examples': count, 'top1_error': error}
        for label, name, count, error in results.by_class(rows, names)
    ]
    result['confusions'] = [
        {'true': true, 'predicted': said, 'count': count} for true, said, count in results.confusions(rows, names)
    ]
    _write_json(result)
    _remove([partial])
    return 0


def _check_flags():
    """What can be told before anything is read."""
    for path in (OUTPUT.value, PREDICTIONS.value, SUBMISSION.value):
        if path and not os.access(os.path.dirname(path) or '.', os.W_OK):
            raise UserError(f'{path} cannot be written: its folder is not there or not writable')
    if SUBMISSION.value and not DEVKIT.value:
        raise UserError("--submission needs ILSVRC's ids: pass --devkit, the ILSVRC2012 devkit's folder")
    members = len(CHECKPOINT.value)
    if len(PROTOCOL.value) not in (0, 1, members):
        raise UserError(f'{len(PROTOCOL.value)} protocols for {members} checkpoints: pass one, or one a checkpoint')
    if WEIGHTS.value and len(WEIGHTS.value) != members:
        raise UserError(f'{len(WEIGHTS.value)} weights for {members} checkpoints: pass one a checkpoint')
    alone = {'--protocol': PROTOCOL.value, '--average': AVERAGE.value, '--weights': WEIGHTS.value,
             '--predictions': PREDICTIONS.value, '--submission': SUBMISSION.value, '--worst': WORST.value}  # fmt: skip
    for flag, value in alone.items():
        if TABLE.value and value:
            raise UserError(f'--table runs the protocols of its rows: leave {flag} out')


def _weight(text):
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float('inf'):
        raise UserError(f'--weights are numbers above 0, as in 2,1, not {text!r}')
    return weight


def _opened(config):
    """The members, each with its own config: the first one's is `config`."""
    import evaluation

    members = len(CHECKPOINT.value)
    wanted = PROTOCOL.value or ['single']
    wanted = wanted * members if len(wanted) == 1 else wanted
    weights = list(map(_weight, WEIGHTS.value)) or [1.0] * members
    opened = []
    for checkpoint, protocol, weight in zip(CHECKPOINT.value, wanted, weights, strict=True):
        own = evaluation.beside(config, checkpoint) if opened else config
        trim = TRIM.value and not TABLE.value
        opened.append(evaluation.open_checkpoint(own, checkpoint, STEP.value, protocol, AVERAGE.value, trim, weight))
    return opened


def _partial(opened, suffix=''):
    """Where the rows of an evaluation are kept until it is done: in the first member's workdir."""
    names = '+'.join(dict.fromkeys(entry.member.protocol.name for entry in opened)) + suffix
    place = opened[0].where.parent.parent / f'evaluation_{re.sub(r"[^0-9A-Za-z,]+", "_", names)}.partial'
    if os.access(place.parent, os.W_OK):
        return str(place)
    if RESUME.value:
        raise UserError(f'{place.parent} cannot be written: nothing of an interrupted evaluation is there')
    return ''


def _tested(config, opened, partial):
    import evaluation
    from input_pipeline import recipe
    from input_pipeline.progress import bar

    total = len(recipe.open_split(config, config.test_split, any_classes=True))
    with bar(opened[0].member.config.architecture, total) as done:
        return evaluation.test(
            config, *opened, labels=LABELS.value, partial=partial, resume=RESUME.value, progress=done
        )


def _table(config, opened):
    import evaluation
    from evaluation import tables

    rows = tables.plan(TABLE.value, opened)
    done, partials = [], []
    for number, (row, members) in enumerate(rows):
        result = None
        if members:
            members = [evaluation.under(entry, row.protocol, trimmed=_trimmed(row.protocol)) for entry in members]
            partials.append(_partial(members, f'_{TABLE.value}_{number}'))
            result, _, _ = _tested(config, members, partials[-1])
        done.append((row, result))
    print('\n'.join(tables.lines(TABLE.value, done)))
    _write_json([row._asdict() | {'here': result} for row, result in done])
    _remove(partials)
    return 0


def _trimmed(protocol):
    """Whether --trim is of this protocol."""
    from evaluation import protocols

    return TRIM.value and any(scale.boxes is None for scale in protocols.create(protocol).scales)


def _write_json(value):
    if OUTPUT.value:
        from evaluation import results

        with results.whole_file(OUTPUT.value) as file:
            json.dump(value, file, indent=2)
            file.write('\n')


def _remove(partials):
    for partial in partials:
        if partial:
            Path(partial).unlink(missing_ok=True)


if __name__ == '__main__':
    command_line.run(main)
