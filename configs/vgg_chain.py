"""VGG's stages in one command: A, then B, C, D and E from A, then C, D and E at larger scales.

    python train.py --config configs/vgg_chain.py --config.data_dir=DIR

Simonyan and Zisserman 2014, sections 3.1 and 3.2; the members are those of vgg_a.py to vgg_e.py, which have the
published errors. B, C, D and E start from seven layers of A. At the short side 384, C, D and E start from all of their
layers at 256, and with scales of 256 to 512 from all of their layers at 384.

Variants, in addition to those of configs/variants.py, which apply to all members:
- `lecture`: the lecture's chain A -> B -> C and D, D -> E. Each starts from all layers of the previous network with
  equal names, with the lecture's values (vgg_a.py). The paper has no chain: every network starts from A. It is for
  study: expect it to diverge.

Time: the sum of the members'; by arithmetic 9.1e19 FLOP, 10.5 days at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import series, variants, vgg_a, vgg_b, vgg_c, vgg_d, vgg_e

NETWORKS = {'vgg_a': vgg_a, 'vgg_b': vgg_b, 'vgg_c': vgg_c, 'vgg_d': vgg_d, 'vgg_e': vgg_e}
PAPER = {  # member: (its variant, the member that it starts from)
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
    chain, rest = variants.split(variant, ('lecture',), 'vgg_chain')
    members = {}
    for name, (stage, before) in (LECTURE if chain else PAPER).items():
        members[name] = NETWORKS[name[:5]].get_config(f'{stage},{rest}')
        members[name].init_from = before
    return series.create(**members)
