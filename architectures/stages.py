"""A stage of equal blocks, run one by one or as one `jax.lax.scan`, with the same parameters and names."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


def stage(net, name, kind, depth, options, first, x, scan=False, remat=False):
    """Run `depth` blocks, named block1, block2, ... under `name`, and record their output under `name`.

    Args:
      net: the network's `Layers`.
      name: name of the stage.
      kind: class of the blocks.
      depth: number of blocks.
      options: options of every block.
      first: further options of the first block.
      x: [B, H, W, C].
      scan: run all blocks but the first as one scan, so that only one is compiled.
      remat: recompute each block in the backward pass.
    """
    row = Row(kind, depth, net.unit.shared | {'train': net.train} | options, first, scan, remat, name=name)
    return net.named(name, row(x))


def unrolled(model):
    """Return the network without `scan` and `remat`, so that a trace has every block once."""
    return model.clone(**{option: False for option in ('scan', 'remat') if hasattr(model, option)})


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
        equal = [f'block{number}' for number in range(2, self.depth + 1)]
        if self.scan and equal and not self.is_initializing():
            return self.scanned(kind(**self.options, parent=None), equal, x)
        for name in equal:
            x = kind(**self.options, name=name)(x)
        return x

    def scanned(self, block, names, x):
        """Run the blocks as a scan over their stacked variables, which are stored separately under their names."""
        separate = [{key: tree[name] for key, tree in self.variables.items() if name in tree} for name in names]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *separate)
        keys = jax.random.split(self.make_rng('dropout'), len(names)) if self.has_rng('dropout') else None
        mutable = ['batch_stats'] if self.is_mutable_collection('batch_stats') else []

        def body(x, each):
            variables, key = each
            return block.apply(variables, x, mutable=mutable, rngs={} if key is None else {'dropout': key})

        x, updated = lax.scan(body, x, (stacked, keys))
        for number, name in enumerate(names):
            for key, tree in updated.items():
                self.put_variable(key, name, jax.tree.map(lambda leaf, n=number: leaf[n], tree))
        return x
