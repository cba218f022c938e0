"""Classify photographs: `python predict.py --checkpoint runs/resnet50 cat.jpg dog.jpg`, or a folder of them.

With `--out features.npz` it writes the activations of a layer instead.
"""

from runtime import interrupts  # first, so that Ctrl-C is handled from here on

if __name__ == '__main__':
    interrupts.listen()

from runtime import command_line  # noqa: I001  (second: it starts the clock)

import json
import sys

from absl import flags

from runtime import files
from runtime.errors import UserError
from runtime.text import say

CHECKPOINT = flags.DEFINE_string('checkpoint', None, "A run's workdir, a converted checkpoint, or one checkpoint.")
STEP = flags.DEFINE_string('step', 'best', "From a workdir: 'best' by its test error, 'latest', or a step.")
PROTOCOL = flags.DEFINE_string('protocol', 'single', 'The views of each image (evaluation/protocols.py).')
JSON = flags.DEFINE_bool('json', False, 'Print JSON.')
GRID = flags.DEFINE_string(
    'grid', None, 'Draw the photographs and their probabilities to this file: .png, .svg or .html.'
)
IGNORE_EXIF = flags.DEFINE_bool('ignore_exif', False, 'Ignore the EXIF orientation of photographs.')
OUT = flags.DEFINE_string('out', None, 'In place of predictions, write the features of the photographs to this .npz.')
LAYER = flags.DEFINE_string('layer', '', 'The layer of --out, as the paper names it; default: the last hidden layer.')


def main(paths):
    if not CHECKPOINT.value:
        raise UserError("no checkpoint: pass --checkpoint DIR, a run's workdir or one checkpoint")
    if not paths:
        raise UserError('no images: pass files or folders after the flags')
    if GRID.value:
        from figures import style

        style.check(GRID.value)
    _check_features()
    config, _ = command_line.load_config()
    from evaluation import open_checkpoint, prediction, protocols
    from input_pipeline.progress import bar
    from training import unread

    unread.refuse(config, *command_line.set_keys(reads=('on_bad_image',)))
    if GRID.value:
        from figures import predictions
        from figures.inputs import title
    protocols.refuse([PROTOCOL.value], command_line.overrides())
    opened = open_checkpoint(config, CHECKPOINT.value, STEP.value, PROTOCOL.value)
    if opened.member.class_names is None:
        print('note: this checkpoint, of an older version, does not have the names of its classes', file=sys.stderr)
    photographs, notes = prediction.files(paths)
    source = prediction.Files(photographs, IGNORE_EXIF.value)
    for note in (*notes, *(f'{note} (--ignore_exif leaves them as stored)' for note in source.notes)):
        say(f'note: {note}', file=sys.stderr)
    if OUT.value:
        return _write_features(opened.member, source, photographs)
    pages = predictions.pages(GRID.value, len(source)) if GRID.value else []
    with bar('predicting', len(source)) as advance:
        answers = prediction.predict(opened.member, source, advance)
    _note_left_out({*photographs} - {entry['file'] for entry in answers})
    if JSON.value:
        print(json.dumps(answers, indent=2))
    else:
        for entry in answers:
            say(entry['file'])
            for best in entry['best']:
                print(f'  {best["probability"]:7.4f}  {best["name"]}')
    if GRID.value:
        numbers = {path: number for number, path in enumerate(photographs)}
        pictures = (source[numbers[entry['file']]].image for entry in answers)
        predictions.draw(answers, pictures, pages, title(opened))
    return 0


def _note_left_out(left_out):
    if left_out:
        say(f'note: left out, not readable as images: {", ".join(sorted(left_out))}', file=sys.stderr)


def _check_features():
    """Check the flags of features before any file is read."""
    if LAYER.value and not OUT.value:
        raise UserError('--layer is the layer of --out: pass --out FILE.npz, too')
    if OUT.value:
        if not OUT.value.endswith('.npz'):
            raise UserError(f'{OUT.value}: features are written to a .npz file')
        for flag in (GRID, JSON, PROTOCOL):
            if flag.present:
                raise UserError(f'--out writes features, not predictions: leave --{flag.name} out')
        files.check(OUT.value)


def _write_features(member, source, photographs):
    """Write the features of photographs: `features` [N, ...], `files` [N] and `layer`."""
    import numpy as np

    from evaluation import apply
    from input_pipeline.progress import bar

    with bar('features', len(source)) as advance:
        features, numbers = apply.outputs(member, source, apply.features(member, LAYER.value), advance)
    names = [photographs[number] for number in numbers]
    _note_left_out({*photographs} - {*names})
    with files.atomic_file(OUT.value, 'wb') as file:
        np.savez(file, features=features, files=np.array(names), layer=np.array(LAYER.value or 'last hidden'))
    shape = '×'.join(map(str, features.shape))
    say(f'{OUT.value}: {LAYER.value or "last hidden layer"} of {len(names):,} photographs, {shape}')
    return 0


if __name__ == '__main__':
    command_line.run(main, positional=True)
