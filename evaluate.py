"""Tests a checkpoint: `python evaluate.py --checkpoint runs/lenet5`; several are an ensemble.

The config is the one that lies with the first checkpoint, or --config's; --config.KEY=VALUE overrides a key of either.
"""

import command_line  # noqa: I001

import json
import os

from absl import flags

from errors import UserError

CHECKPOINT = flags.DEFINE_multi_string(
    'checkpoint', [], "A run's workdir, a converted checkpoint, or one checkpoint; once for each member of an ensemble."
)
STEP = flags.DEFINE_string('step', 'best', "Of a workdir: 'best' by its test error, 'latest', or a step.")
PROTOCOL = flags.DEFINE_multi_string(
    'protocol', ['single'], 'How images are looked at (evaluation/protocols.py); once, or once for each checkpoint.'
)
AVERAGE = flags.DEFINE_string('average', '', "softmax or logits, in place of the protocol's.")
TRIM = flags.DEFINE_bool('trim', False, 'Dense passes keep the middle 32 n of the long side: another protocol.')
WEIGHTS = flags.DEFINE_list('weights', [], 'Of the members of an ensemble, comma between.')
LABELS = flags.DEFINE_string('labels', '', 'imagenet_v2, imagenet_a, imagenet_r or real=FILE.')
TABLE = flags.DEFINE_string('table', '', "Run a paper's table: vgg3, vgg4, vgg5, vgg6, googlenet3, resnet3, resnet4.")
OUTPUT = flags.DEFINE_string('output', None, 'Also write the result as JSON to this file.')
PREDICTIONS = flags.DEFINE_string('predictions', None, 'Write the best five classes of each image to this CSV file.')
SUBMISSION = flags.DEFINE_string('submission', None, "Write ILSVRC's form to this file; needs --devkit.")
DEVKIT = flags.DEFINE_string('devkit', None, "meta.mat of ILSVRC's devkit: which id is which class.")
WORST = flags.DEFINE_integer('worst', 0, 'Print so many of the worst classes and of the most confused pairs.')
RESUME = flags.DEFINE_bool('resume', False, 'Go on with an interrupted evaluation.')
PARTIAL = flags.DEFINE_string(
    'partial', '', 'Keep what is done in this file, for --resume (default with --output: FILE.partial).'
)


def main():
    if not CHECKPOINT.value:
        raise UserError("no checkpoint: pass --checkpoint DIR, a run's workdir or one checkpoint")
    for path in (OUTPUT.value, PREDICTIONS.value, SUBMISSION.value, PARTIAL.value):
        if path and not os.access(os.path.dirname(path) or '.', os.W_OK):
            raise UserError(f'{path} cannot be written: its folder is not there or not writable')
    config, _ = command_line.load_config()
    import evaluation
    from evaluation import report, results

    configs = [config, *(evaluation.beside(config, checkpoint) for checkpoint in CHECKPOINT.value[1:])]
    networks = [member.architecture for member in configs]
    data = f'{config.dataset}/{config.test_split}'
    if TABLE.value:
        return run_table(configs)
    opened = open_all(configs, PROTOCOL.value)
    partial = PARTIAL.value or (f'{OUTPUT.value}.partial' if OUTPUT.value else '')
    if RESUME.value and not partial:
        raise UserError('--resume goes on from --partial FILE (or --output FILE, beside which it lies)')
    ids = ilsvrc_ids() if SUBMISSION.value else None
    result, rows, names = run(config, opened, partial, data)
    print('\n'.join(report.lines(result, networks, data)))
    for entry in opened:
        chosen = {'best': ", the run's best by test error", 'latest': ", the run's last"}.get(STEP.value, '')
        print(f'checkpoint: {entry.where}{chosen if entry.chosen and not entry.card else ""}')
        if entry.card:
            source = entry.card['source']
            print(
                f'weights: {source["name"]} ({source["release"]}), converted from {source["file"]}; they answer the '
                'probe image as their passport says'
            )
    if WORST.value:
        print(
            'worst classes: '
            + '; '.join(
                f'{name} {error:.0f}% of {n}' for _, name, n, error in results.by_class(rows, names)[: WORST.value]
            )
        )
        print(
            'most confused: '
            + '; '.join(f'{true} for {said} {n}' for true, said, n in results.confusions(rows, names)[: WORST.value])
        )
    if PREDICTIONS.value:
        results.write_predictions(PREDICTIONS.value, rows, names)
        print(f'predictions: {PREDICTIONS.value}')
    if SUBMISSION.value:
        results.write_submission(SUBMISSION.value, rows, ids)
        print(f'submission: {SUBMISSION.value}')
    if OUTPUT.value:
        write_json(OUTPUT.value, result | {'per_class': results.by_class(rows, names), 'networks': networks})
    return 0


def open_all(configs, named):
    """The checkpoints, each with its protocol and weight."""
    import evaluation

    if len(named) not in (1, len(configs)):
        raise UserError(
            f'{len(named)} protocols for {len(configs)} checkpoints: pass --protocol once, or once for each'
        )
    try:
        weights = [float(weight) for weight in WEIGHTS.value] or [1.0] * len(configs)
    except ValueError:
        raise UserError(f'--weights are numbers, not {",".join(WEIGHTS.value)}') from None
    if len(weights) != len(configs) or not all(weight > 0 for weight in weights):
        raise UserError(f'{len(weights)} weights for {len(configs)} checkpoints: one for each, above 0')
    named = named * len(configs) if len(named) == 1 else named
    return [
        evaluation.open_checkpoint(config, checkpoint, STEP.value, name, AVERAGE.value, TRIM.value, weight)
        for config, checkpoint, name, weight in zip(configs, CHECKPOINT.value, named, weights, strict=True)
    ]


def run(config, opened, partial, data):
    """The result of an evaluation, with a bar where there is a terminal."""
    import evaluation
    from input_pipeline import progress, recipe

    total = len(recipe.open_split(config, config.test_split, any_classes=True))
    with progress.bar(f'evaluating on {data}', total) as advance:
        return evaluation.evaluate(
            config, *opened, labels=LABELS.value, partial=partial, resume=RESUME.value, progress=advance
        )


def run_table(configs):
    """Runs the rows of a paper's table, and prints it with the paper's numbers beside ours."""
    from evaluation import tables

    members = [
        (
            checkpoint,
            config.architecture,
            config.crop.short_side if config.crop.kind == 'random' else None,
            config.architecture_options,
        )
        for checkpoint, config in zip(CHECKPOINT.value, configs, strict=True)
    ]
    import evaluation

    done = []
    for row, numbers in tables.plan(TABLE.value, members):
        if not numbers:
            done.append((row, None))
            continue
        opened = [
            evaluation.open_checkpoint(
                configs[n], CHECKPOINT.value[n], STEP.value, row.protocol, AVERAGE.value, TRIM.value
            )
            for n in numbers
        ]
        done.append((row, run(configs[0], opened, '', row.protocol)[0]))
    print('\n'.join(tables.lines(TABLE.value, done)))
    if OUTPUT.value:
        write_json(OUTPUT.value, [row._asdict() | {'result': result} for row, result in done])
    return 0


def ilsvrc_ids():
    """{class: ILSVRC id} of the devkit's meta.mat."""
    from input_pipeline import labels

    if not DEVKIT.value:
        raise UserError(
            "--submission needs --devkit FILE, meta.mat of ILSVRC's devkit, which says which id is which class"
        )
    order = labels.devkit_order(DEVKIT.value)
    return {place: order.index(wnid) + 1 for place, wnid in enumerate(sorted(order))}


def write_json(path, value):
    with open(path, 'w') as file:
        json.dump(value, file, indent=2)
        file.write('\n')


if __name__ == '__main__':
    command_line.run(main)
