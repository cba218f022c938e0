"""A series: several runs, one after another, as one config. A member may start from the weights of an earlier one."""

from ml_collections import ConfigDict

from configs import base

# Keys that all members share: `--config.KEY=VALUE` sets them for all.
SHARED = (
    'data_dir', 'labels', 'on_bad_image', 'workers', 'dtype', 'scale_lr', 'accumulate', 'test_batch_size', 'tracker',
)  # fmt: skip


def create(**members):
    """Create the series of these members, in this order.

    It has `members`, name -> config, their `order`, and the keys in SHARED, which the members reference, so that their
    values are always those of the series. Only members with the data set of the first share `data_dir` and `labels`.

    A member's `init_from` may be the name of an earlier member.
    """
    config, first = ConfigDict(), next(iter(members.values()))
    config.order = tuple(members)
    config.members = ConfigDict()
    for key in SHARED:
        config[key] = first[key]
    for name, member in members.items():
        for key in SHARED:
            if key not in ('data_dir', 'labels') or member.dataset == first.dataset:
                member[key] = config.get_ref(key)
        config.members[name] = member
    return base.locked(config)
