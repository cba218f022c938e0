"""VGG's stages in one command: A, then B, C, D and E from A, then C, D and E at larger scales.

    python train.py --config configs/vgg_chain.py --config.data_dir=DIR

Simonyan and Zisserman 2014, sections 3.1 and 3.2; the members are those of vgg_a.py to vgg_e.py, each with its own
published errors there. B, C, D and E take seven layers of A each; C, D and E at the short side 384 all of their own
at 256, and with scales of 256 to 512 all of their own at 384.

Variants, besides those of configs/variants.py, of all members at once:
- `lecture`: the lecture's chain A -> B -> C and D, D -> E, each from all the layers of the one before, which keep
  their names, in the lecture's values (vgg_a.py). The paper has no chain: every network starts from A. It is there to
  be studied: expect it to diverge.

Time: the sum of the members'; by arithmetic 9.1e19 FLOP, 10.5 days at 100 TFLOP/s.
Measured: not yet run here.
"""

from configs import series, variants, vgg_a, vgg_b, vgg_c, vgg_d, vgg_e

NETWORKS = {'vgg_a': vgg_a, 'vgg_b': vgg_b, 'vgg_c': vgg_c, 'vgg_d': vgg_d, 'vgg_e': vgg_e}
PAPER = {  # member: (its variant, the one that it starts from)
    'vgg_a': ('', ''),
    **{f'vgg_{column}': ('', 'vgg_a') for column in 'bcde'},
    **{f'vgg_{column}_s384': ('s384', f'vgg_{column}') for column in 'cde'},
    **{f'vgg_{column}_jitter': ('jitter', f'vgg_{column}_s384') for column in 'cde'},
}
LECTURE = {
    'vgg_a': ('lecture', ''),
    'vgg_b': ('lecture', 'vgg_a'),
    'vgg_c': ('lecture', 'vgg_b'),
    'vgg_d': ('lecture', 'vgg_b'),
    'vgg_e': ('lecture', 'vgg_d'),
}


def get_config(variant=''):
    own, rest = variants.split(variant, ('lecture',), 'vgg_chain')
    members = {}
    for name, (stage, before) in (LECTURE if own else PAPER).items():
        members[name] = NETWORKS[name[:5]].get_config(f'{stage},{rest}')
        members[name].init_from = before
    return series.create(**members)
