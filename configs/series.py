"""A series: several runs, one after another, as one config. A member may start from the weights of an earlier one."""

from ml_collections import ConfigDict

from configs import base

# What is said once for all members: `--config.KEY=VALUE` reaches each.
SHARED = ('data_dir', 'labels', 'on_bad_image', 'workers', 'dtype', 'scale_lr', 'accumulate', 'test_batch_size')


def create(**members):
    """The series of these members, in their order.

    It has `members`, name -> config, their `order`, and the keys of SHARED, which the members hold by reference: a
    member has no other value of them than the series. Where data lies, `data_dir` and `labels`, is shared by those that
    read the data set of the first.

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
