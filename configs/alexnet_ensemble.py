"""AlexNet's ensemble of five networks, or seven: Krizhevsky et al. 2012, section 6.

    python train.py --config configs/alexnet_ensemble.py --config.data_dir=DIR
    python train.py --config configs/alexnet_ensemble.py:seven --config.data_dir=DIR --config.fall_data_dir=FALL

Published: five networks top-1 38.1, top-5 16.4; seven 36.7, 15.4 (table 2; ImageNet validation, ten crops).

Five networks that differ in their seeds. Variants, besides those of configs/variants.py:
- `seven`: two more with a sixth convolution, over pool5, trained before on the whole of ImageNet's release of fall 2011
  (FALL/train/CLASS/IMAGE and FALL/test/CLASS/IMAGE, 21,841 classes) and fine-tuned. Unsaid, and our reading: the shape
  of that convolution, which is conv5's; length and rates of both trainings, which are the recipe's; whether the two
  were pre-trained apart: here once (member `fall`, which is no part of the seven).
- `lecture`: seven equal networks of alexnet.py:lecture, where the paper's two others are as above.

Time: five or seven times alexnet.py's; by the size of the release `fall` takes eleven times that of one.
Measured: not yet run here.
"""

from configs import alexnet, base, series, variants


def _sixth(member, seed):
    member.architecture_options.extra_conv = True
    member.seed = seed
    return member


def get_config(variant=''):
    own, rest = variants.split(variant, ('seven', 'lecture'), 'alexnet_ensemble')
    if len(own) == 2:
        raise ValueError(f'seven and lecture contradict each other in {variant!r}: keep one of them')
    form = f'lecture,{rest}' if 'lecture' in own else rest
    members = {f'alexnet_{seed}': alexnet.get_config(form) for seed in range(7 if 'lecture' in own else 5)}
    for seed, member in enumerate(members.values()):
        member.seed = seed
    if 'seven' not in own:
        return series.create(**members)
    fall = _sixth(alexnet.get_config(form), 7)
    if fall.dataset == 'imagenet':
        fall.dataset, fall.test_split, fall.num_classes = 'folder', 'test', 21_841
    members['fall'] = fall
    for seed in (5, 6):
        members[f'alexnet_{seed}'] = _sixth(alexnet.get_config(form), seed)
        members[f'alexnet_{seed}'].init_from = 'fall'  # fc8 does not fit, and starts anew
    config = series.create(**members)
    if fall.dataset != config.members.alexnet_0.dataset:
        with config.unlocked():
            config.fall_data_dir = ''  # where the release of fall 2011 lies
        fall.data_dir = config.get_ref('fall_data_dir')
    return base.locked(config)
