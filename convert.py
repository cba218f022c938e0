"""Convert published weights to a checkpoint, or export a checkpoint.

In:  python convert.py --source hf://timm/resnet50.tv_in1k --out runs/resnet50
     python convert.py --source torchvision:resnet50 --out runs/resnet50
     python convert.py --arch resnet50 --source resnet50.pth --out runs/resnet50
     python convert.py --list
Out: python convert.py --to safetensors --checkpoint runs/resnet50 --out resnet50_hub
"""

from runtime import interrupts  # first, so that Ctrl-C is handled from here on

if __name__ == '__main__':
    interrupts.listen()

from runtime import command_line  # noqa: I001  (second: it starts the clock)

import os
import shlex

from absl import flags

from runtime.errors import UserError, nearest
from runtime.text import say

ARCH = flags.DEFINE_string(
    'arch', '', 'Our name of the network (`python -m architectures`); a release that has a name tells it itself.'
)
SOURCE = flags.DEFINE_string(
    'source',
    None,
    'The weight file: .safetensors, .pth, .pt, .th, .bin, .ckpt, .npz, .caffemodel. Or the name of a release, which is '
    'fetched: hf://OWNER/NAME[@REVISION], torchvision:NAME.',
)
LIST = flags.DEFINE_bool('list', False, 'List the releases that can be converted, and their published errors.')
OUT = flags.DEFINE_string('out', None, 'The folder to create.')
RELEASE = flags.DEFINE_string(
    'release', '', "The release, if the tensors' names do not determine it: torchvision, timm, caffe, ..."
)
KEEP_BGR = flags.DEFINE_bool(
    'keep_bgr', False, 'Do not swap the channels of a first layer that reads blue, green, red.'
)
MEAN = flags.DEFINE_string('mean', '', 'A mean image to subtract, a Caffe .binaryproto.')
LICENCE = flags.DEFINE_string('licence', '', 'The license of the weights, for the passport.')
TO = flags.DEFINE_string('to', '', 'Export: safetensors, stablehlo or onnx.')
CHECKPOINT = flags.DEFINE_string(
    'checkpoint', None, "Export: a run's workdir, a converted checkpoint, or one checkpoint."
)
STEP = flags.DEFINE_string('step', 'best', "Export, from a workdir: 'best' by its test error, 'latest', or a step.")


def main():
    if LIST.value:
        from weights import homes

        print('\n'.join(homes.listed()))
        return 0
    if not OUT.value:
        raise UserError('no --out: pass the folder to create')
    import architectures
    import weights

    if TO.value:
        if not CHECKPOINT.value:
            raise UserError('no --checkpoint: pass a workdir or one checkpoint to export')
        config, _ = command_line.load_config()
        from training import unread

        unread.refuse(config, *command_line.set_keys())
        with interrupts.Raised():  # an incomplete folder is removed
            notes = weights.export(config, CHECKPOINT.value, STEP.value, TO.value, OUT.value, RELEASE.value)
        for note in notes:
            say(note)
        return 0
    usage = 'python convert.py --arch NAME --source FILE --out DIR, or --source hf://OWNER/NAME --out DIR'
    if not SOURCE.value:
        raise UserError(f'no --source: {usage} (or --to FORMAT to export)')
    if ARCH.value and ARCH.value not in architectures.names():
        raise UserError(f'no architecture {ARCH.value!r}{nearest(ARCH.value, architectures.names())}')
    if not weights.fetch.is_name(SOURCE.value):
        if not os.path.exists(SOURCE.value):
            raise UserError(
                f'{SOURCE.value} does not exist; a release by its name is hf://OWNER/NAME or torchvision:NAME '
                '(python convert.py --list)'
            )
        if not ARCH.value:
            raise UserError(f'no --arch: {usage}')
    with interrupts.Raised():
        card = weights.convert_file(
            SOURCE.value, ARCH.value, OUT.value, RELEASE.value, KEEP_BGR.value, MEAN.value, LICENCE.value, say
        )
    source = card['source']
    say(f'{source["file"]}: {source["name"]} ({source["release"]}), {card["num_classes"]} classes')
    for note in card['notes']:
        say(f'note: {note}')
    say(f'passport: {OUT.value}/passport.json')
    say(f'evaluate: python evaluate.py --checkpoint {shlex.quote(OUT.value)} --config.data_dir=DIR')
    return 0


if __name__ == '__main__':
    command_line.run(main)
