"""AlexNet's ensembles of five and seven networks: Krizhevsky et al. 2012, section 6.

    python train.py --config configs/alexnet_ensemble.py --config.data_dir=DIR
    python train.py --config configs/alexnet_ensemble.py:seven --config.data_dir=DIR --config.fall_data_dir=FALL

Published: five networks top-1 38.1, top-5 16.4; seven 36.7, 15.4 (table 2; ImageNet validation, ten crops).

Five networks that differ only in their seeds. Variants, in addition to those of configs/variants.py:
- `seven`: two more, with a sixth convolution over pool5, pre-trained on ImageNet's entire fall 2011 release
  (FALL/train/CLASS/IMAGE and FALL/test/CLASS/IMAGE, 21,841 classes) and fine-tuned. The paper leaves open, and we
  assume: that convolution has the shape of conv5; both trainings have the recipe's length and rates; the two networks
  share one pre-training (member `fall`, which is not one of the seven).
- `lecture`: seven equal networks of alexnet.py:lecture; in the paper, two of the seven are as above.

Time: five or seven times alexnet.py's; given the size of its data, `fall` takes eleven times one network's.
Measured: not run yet.
"""

from configs import alexnet, base, series, variants


def _sixth(member, seed):
    member.architecture_options.extra_conv = True
    member.seed = seed
    return member


def get_config(variant=''):
    ensemble, rest = variants.split(variant, ('seven', 'lecture'), 'alexnet_ensemble')
    if len(ensemble) == 2:
        raise ValueError(f'seven and lecture contradict each other in {variant!r}: keep one of them')
    form = f'lecture,{rest}' if 'lecture' in ensemble else rest
    members = {f'alexnet_{seed}': alexnet.get_config(form) for seed in range(7 if 'lecture' in ensemble else 5)}
    for seed, member in enumerate(members.values()):
        member.seed = seed
    if 'seven' not in ensemble:
        return series.create(**members)
    fall = _sixth(alexnet.get_config(form), 7)
    if fall.dataset == 'imagenet':
        fall.dataset, fall.test_split, fall.num_classes = 'folder', 'test', 21_841
    members['fall'] = fall
    for seed in (5, 6):
        members[f'alexnet_{seed}'] = _sixth(alexnet.get_config(form), seed)
        members[f'alexnet_{seed}'].init_from = 'fall'  # all but fc8, whose shape differs
    config = series.create(**members)
    if fall.dataset != config.members.alexnet_0.dataset:
        with config.unlocked():
            config.fall_data_dir = ''  # folder of the fall 2011 release
        fall.data_dir = config.get_ref('fall_data_dir')
    return base.locked(config)
