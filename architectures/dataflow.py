"""A network as a graph of its layers, found in the operations that it is traced to: nothing is computed.

The edges are those of the computation: what a residual addition adds, what a module concatenates, what a gate scales.
A layer is a module with parameters, a function of `layers` that carries its name (`jax.named_call`), or an operation
between them.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from architectures import layers, stages

# Modules, named functions and operations that are layers, by the names that a reader knows.
_MODULES = {'BatchNorm': 'batch norm', 'PReLU': 'PReLU', 'Subsampling': 'subsampling'}
_FUNCTIONS = {
    'max_pool': 'max pool',
    'average_pool': 'average pool',
    'global_average': 'global average',
    'local_response_norm': 'LRN',
    'spatial_pyramid': 'spatial pyramid',
    'strided': 'subsample',
    'scaled_tanh': 'scaled tanh',
    'rbf_penalties': 'RBF',
}
_JITTED = {'relu': 'ReLU', 'leaky_relu': 'leaky ReLU'}
_OPERATIONS = {'logistic': 'sigmoid', 'tanh': 'tanh', 'pad': 'zero pad', 'concatenate': 'concat'}
_OF_TWO = {'add': 'add', 'mul': 'multiply'}
_PASSING = ('reshape', 'squeeze', 'broadcast_in_dim', 'convert_element_type', 'transpose', 'copy', 'neg')
_BY_A_NUMBER = ('add', 'sub', 'mul', 'div')  # with a literal: a matter of units

ACTIVATIONS = ('ReLU', 'leaky ReLU', 'PReLU', 'tanh', 'scaled tanh', 'sigmoid')
NORMS = ('batch norm', 'LRN')
JOINS = ('add', 'multiply', 'concat')


class Node(NamedTuple):
    """A layer.

    Fields:
      kind: 'input', 'convolution', 'fully connected', 'max pool', ..., or one of NORMS, ACTIVATIONS and JOINS.
      scope: the path of the module whose layer it is; () is the network.
      name: its own name in there: of its module, or else of the activation that the network keeps of it; or ''.
      shape: (H, W, C) of its output for one image; a vector is 1x1.
      inputs: the nodes whose outputs it reads, as indices; of a concatenation in its order.
      kernel: (rows, columns) of a convolution or a pooling window; None where it has none.
      stride: of those.
      groups: of a convolution.
      parameters: trainable scalars.
    """

    kind: str
    scope: tuple
    name: str
    shape: tuple
    inputs: tuple
    kernel: tuple | None = None
    stride: int = 1
    groups: int = 1
    parameters: int = 0


class Graph(NamedTuple):
    """Layers in the order in which they run.

    Fields:
      nodes: the first is the input, the last is the output.
      modules: {path: class} of all modules, an outer one before those in it.
    """

    nodes: tuple
    modules: dict

    @property
    def blocks(self):
        """The paths of the modules that are a `layers.Block`."""
        return [path for path, kind in self.modules.items() if issubclass(kind, layers.Block)]


class Parallel(NamedTuple):
    """What runs side by side.

    Fields:
      join: the node that the branches meet in.
      branches: the series of each, in the order of the join's inputs; an empty one leaves its input as it is.
    """

    join: int
    branches: list


def trace(model, image_shape):
    """The `Graph` of a network as it is deployed, without auxiliary heads.

    Args:
      model: a network of `architectures.create`.
      image_shape: (H, W, C).

    Raises:
      NotImplementedError: it computes with an operation that is not known here.
    """
    model, modules = stages.unrolled(model), {}

    def record(call, args, options, context):
        if context.method_name == '__call__':
            modules.setdefault(context.module.path, type(context.module))
        return call(*args, **options)

    def forward(images):
        kept = ['params', 'batch_stats', 'activations']
        with nn.intercept_methods(record):
            logits, state = model.apply({}, images, mutable=kept, rngs={'params': jax.random.key(0)})
        return logits, state['activations'], state['params']

    with layers.plain_forms():
        image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        closed, (_, activations, params) = jax.make_jaxpr(forward, return_shape=True)(image)
    parameters = {}  # of each module that has some of its own: a layer
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        module = tuple(key.key for key in path[:-1])
        parameters[module] = parameters.get(module, 0) + math.prod(leaf.shape)

    drafts = [{'kind': 'input', 'scope': (), 'name': '', 'shape': tuple(image_shape), 'inputs': []}]
    outputs = _read(closed.jaxpr, [0], None, modules, parameters, drafts)
    for name, index in zip(sorted(activations), outputs[1:], strict=False):
        if not drafts[index]['scope']:  # a block's last layer has its own name, or none
            drafts[index]['name'] = drafts[index]['name'] or name
    last = outputs[0] + 1  # what runs behind the output would be no part of it
    nodes = [{field: draft[field] for field in Node._fields if field in draft} for draft in drafts[:last]]
    return Graph(tuple(Node(**node)._replace(inputs=tuple(node['inputs'])) for node in nodes), modules)


class _Found(Exception):
    """A block was called."""


def has_blocks(model, image_shape):
    """Whether a network has a `layers.Block`; it is traced up to the first."""

    def stop(call, args, options, context):
        if isinstance(context.module, layers.Block):
            raise _Found
        return call(*args, **options)

    try:
        with nn.intercept_methods(stop):
            image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
            jax.eval_shape(stages.unrolled(model).init, jax.random.key(0), image)
    except _Found:
        return True
    return False


def part(graph, path):
    """The `Graph` of one module: what it reads is the input."""
    own = [index for index, node in enumerate(graph.nodes) if node.scope[: len(path)] == path]
    outer = sorted({source for index in own for source in graph.nodes[index].inputs} - set(own))
    places = {index: place for place, index in enumerate([*outer, *own])}
    nodes = [Node('input', (), '', graph.nodes[index].shape, ()) for index in outer]
    for index in own:
        node = graph.nodes[index]
        nodes.append(node._replace(inputs=tuple(places[source] for source in node.inputs)))
    modules = {inner: kind for inner, kind in graph.modules.items() if inner[: len(path)] == path}
    return Graph(tuple(nodes), modules)


def flat(graph):
    """The same graph where a concatenation of concatenations is one of all that they join."""
    nodes = []
    for node in graph.nodes:
        if node.kind == 'concat':
            inner = [nodes[source].inputs if nodes[source].kind == 'concat' else (source,) for source in node.inputs]
            node = node._replace(inputs=tuple(source for sources in inner for source in sources))
        nodes.append(node)
    return graph._replace(nodes=tuple(nodes))


def consumers(inputs):
    """For each vertex those that read it, of the vertices that each reads."""
    found = [[] for _ in inputs]
    for vertex, sources in enumerate(inputs):
        for source in dict.fromkeys(sources):
            found[source].append(vertex)
    return found


def series(inputs):
    """A graph as what runs one after another: a list of vertices and of `Parallel`, all but the first vertex.

    Args:
      inputs: of each vertex those that it reads, all before it; the first reads none, and all lead to the last.

    Raises:
      ValueError: the graph is not made of chains and of branches that meet again.
    """
    readers = consumers(inputs)
    meets = [*range(len(inputs))]  # the first vertex behind each that all its paths lead through
    for vertex in range(len(inputs) - 2, -1, -1):
        meet, *others = readers[vertex]
        for other in others:
            while meet != other:
                meet, other = (meets[meet], other) if meet < other else (meet, meets[other])
        meets[vertex] = meet

    def between(vertex, stop):
        found = []
        while vertex != len(inputs) - 1:
            ahead = meets[vertex]
            if len(readers[vertex]) > 1:
                found.append(parallel(vertex, ahead))
            elif ahead == stop:
                break
            elif len(inputs[ahead]) > 1:
                raise ValueError(f'{ahead} reads what is in another branch')
            else:
                found.append(ahead)
            vertex = ahead
        return found

    def parallel(fork, join):
        branches = {}
        for reader in readers[fork]:
            branch = [] if reader == join else [reader, *between(reader, join)]
            branches[_last(branch) if branch else fork] = branch
        if set(branches) != set(inputs[join]):
            raise ValueError(f'{join} reads what is in no branch of {fork}')
        return Parallel(join, [branches[source] for source in inputs[join]])

    return between(0, len(inputs))


def _last(elements):
    return elements[-1].join if isinstance(elements[-1], Parallel) else elements[-1]


def _read(jaxpr, inputs, owner, modules, parameters, drafts):
    """Appends the layers of a jaxpr to `drafts`; the nodes that its outputs come from, None of what is no image.

    Args:
      inputs: the node that each input comes from, or None.
      owner: of all its operations (see `_owner`), where it is a function's within a layer.
    """
    held = dict(zip(jaxpr.invars, inputs, strict=True))
    for equation in jaxpr.eqns:
        sources = [None if hasattr(atom, 'val') else held.get(atom) for atom in equation.invars]  # val: a literal's
        if all(source is None for source in sources):
            continue
        of, name = equation.params, equation.primitive.name
        mine = owner or _owner(str(equation.source_info.name_stack).split('/')[1:], modules, parameters)
        layer, scope = mine
        inner = of.get('call_jaxpr') or (of.get('jaxpr') if 'jit' in name else None)
        if inner and of.get('name') not in _JITTED:
            outputs = _read(getattr(inner, 'jaxpr', inner), sources, mine, modules, parameters, drafts)
            held.update(zip(equation.outvars, outputs, strict=True))
            continue
        (output,) = equation.outvars
        sources = [source for source in sources if source is not None]
        if layer:
            held[output] = _extend(drafts, mine, equation, sources, modules, parameters)
        elif name in _PASSING or (name in _BY_A_NUMBER and any(hasattr(atom, 'val') for atom in equation.invars)):
            (held[output],) = sources
        else:
            kind = _JITTED.get(of.get('name')) or _OPERATIONS.get(name) or (len(sources) == 2 and _OF_TWO.get(name))
            if not kind:
                raise NotImplementedError(f'{name} in {"/".join(scope)} is no layer that is known')
            if kind == 'concat' and of['dimension'] != len(output.aval.shape) - 1:
                raise NotImplementedError(f'a concatenation in {"/".join(scope)} that is not of channels')
            shape = _shape(output)
            drafts.append({'kind': kind, 'scope': scope, 'name': '', 'shape': shape, 'inputs': sources})
            held[output] = len(drafts) - 1
    return [None if hasattr(atom, 'val') else held.get(atom) for atom in jaxpr.outvars]


def _owner(scopes, modules, parameters):
    """(layer, path of the module that it is in) of an operation within these scopes, from outside to inside.

    The layer is the name of a module with parameters or of a function, or '' where the operation is in neither.
    """
    path = ()
    for scope in scopes:
        if (*path, scope) in parameters:
            return scope, path
        if (*path, scope) in modules:
            path = (*path, scope)
        elif scope in _FUNCTIONS:
            return scope, path
    return '', path


def _extend(drafts, owner, equation, sources, modules, parameters):
    """Adds an operation to the layer that it belongs to: the last one, or a new one; returns its index."""
    layer, scope = owner
    if drafts[-1].get('owner') != owner:
        path = (*scope, layer)
        kind = _MODULES.get(modules[path].__name__, '') if path in parameters else _FUNCTIONS[layer]
        name = layer if path in parameters else ''
        drafts.append({'kind': kind, 'scope': scope, 'name': name, 'inputs': [], 'owner': owner})
        drafts[-1]['parameters'] = parameters.get(path, 0)
    draft, index, of = drafts[-1], len(drafts) - 1, equation.params
    draft['inputs'] = list(dict.fromkeys(source for source in [*draft['inputs'], *sources] if source != index))
    draft['shape'] = _shape(equation.outvars[0])
    if equation.primitive.name == 'conv_general_dilated':
        rows, columns = (equation.invars[1].aval.shape[axis] for axis in of['dimension_numbers'].rhs_spec[2:])
        draft |= {'kind': 'convolution', 'kernel': (rows, columns)}
        draft |= {'stride': of['window_strides'][0], 'groups': of['feature_group_count']}
    elif equation.primitive.name == 'dot_general':
        draft['kind'] = 'fully connected'
    elif equation.primitive.name.startswith('reduce_window') and layer in ('max_pool', 'average_pool'):
        draft |= {'kernel': of['window_dimensions'][1:3], 'stride': of['window_strides'][1]}
    elif equation.primitive.name == 'slice' and layer == 'strided':
        draft['stride'] = max(draft.get('stride', 1), *(of['strides'] or (1,)))
    return index


def _shape(variable):
    shape = tuple(variable.aval.shape[1:])
    return shape if len(shape) == 3 else (1, 1, math.prod(shape))
