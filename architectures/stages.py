"""A row of equal blocks, run one by one or as one `jax.lax.scan`; parameters and their names are the same."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


def stage(net, name, kind, depth, options, first, x, scan=False, remat=False):
    """`depth` blocks under `name`, called block1, block2, ..., and the activation of that name.

    Args:
      net: the network's `Layers`.
      kind: the blocks' class.
      options: of every block.
      first: further options of the first block.
      scan: run the others, which are equal, as one scan: one block is compiled in place of all.
      remat: recompute each block in the backward pass.
    """
    row = Row(kind, depth, net.unit.shared | {'train': net.train} | options, first, scan, remat, name=name)
    return net.named(name, row(x))


def unrolled(model):
    """The same network without `scan` and `remat`: every block is traced once."""
    return model.clone(**{how: False for how in ('scan', 'remat') if hasattr(model, how)})


class Row(nn.Module):
    """The blocks of a stage; see `stage`."""

    kind: type
    depth: int
    options: dict
    first: dict
    scan: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, x):
        kind = nn.remat(self.kind) if self.remat else self.kind
        x = kind(**{**self.options, **self.first}, name='block1')(x)
        others = [f'block{number}' for number in range(2, self.depth + 1)]
        if self.scan and others and not self.is_initializing():
            return self.scanned(kind(**self.options, parent=None), others, x)
        for name in others:
            x = kind(**self.options, name=name)(x)
        return x

    def scanned(self, block, names, x):
        """The blocks as a scan over their stacked variables, which stay apart under their names outside of it."""
        apart = [{key: tree[name] for key, tree in self.variables.items() if name in tree} for name in names]
        together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *apart)
        keys = jax.random.split(self.make_rng('dropout'), len(names)) if self.has_rng('dropout') else None
        mutable = ['batch_stats'] if self.is_mutable_collection('batch_stats') else []

        def body(x, each):
            variables, key = each
            return block.apply(variables, x, mutable=mutable, rngs={} if key is None else {'dropout': key})

        x, updated = lax.scan(body, x, (together, keys))
        for number, name in enumerate(names):
            for key, tree in updated.items():
                self.put_variable(key, name, jax.tree.map(lambda leaf, n=number: leaf[n], tree))
        return x
