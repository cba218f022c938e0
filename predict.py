"""Classify photographs: `python predict.py --checkpoint runs/resnet50 cat.jpg dog.jpg`, or a folder of them."""

from runtime import interrupts  # first, so that Ctrl-C is handled from here on

if __name__ == '__main__':
    interrupts.listen()

from runtime import command_line  # noqa: I001  (second: it starts the clock)

import json
import sys

from absl import flags

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


def main(paths):
    if not CHECKPOINT.value:
        raise UserError("no checkpoint: pass --checkpoint DIR, a run's workdir or one checkpoint")
    if not paths:
        raise UserError('no images: pass files or folders after the flags')
    if GRID.value:
        from figures import style

        style.check(GRID.value)
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
    pages = predictions.pages(GRID.value, len(source)) if GRID.value else []
    with bar('predicting', len(source)) as advance:
        answers = prediction.predict(opened.member, source, advance)
    if left_out := sorted({*photographs} - {entry['file'] for entry in answers}):
        say(f'note: left out, not readable as images: {", ".join(left_out)}', file=sys.stderr)
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


if __name__ == '__main__':
    command_line.run(main, positional=True)
