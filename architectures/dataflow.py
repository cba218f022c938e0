"""A network as a graph of its layers, found in the operations that it is traced to: nothing is computed.

The edges are those of the computation: what a residual addition adds, what a module concatenates, what a gate scales.
A layer is a module with parameters, a function of `layers` that carries its name (`jax.named_call`), or an operation
between them.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from architectures import layers, stages
from architectures.graph import Rules, walk

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
_JITTED = {'relu()': 'ReLU', 'leaky_relu()': 'leaky ReLU'}
_OPERATIONS = {**_JITTED, 'logistic': 'sigmoid', 'tanh': 'tanh', 'pad': 'zero pad', 'concatenate': 'concat'}
_OF_TWO = {'add': 'add', 'mul': 'multiply'}
_PASSING = ('reshape', 'squeeze', 'broadcast_in_dim', 'convert_element_type', 'transpose', 'copy', 'neg')
_BY_A_NUMBER = ('add', 'sub', 'mul', 'div')  # with a number: a matter of units

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
      UserError: it computes with an operation that is not known here.
    """
    model, kinds = stages.unrolled(model), {}

    def visit(module, arguments, output):
        kinds[module.path] = type(module)

    def forward(images):
        kept = ['params', 'batch_stats', 'activations']
        with layers.on_call(visit):
            logits, state = model.apply({}, images, mutable=kept, rngs={'params': jax.random.key(0)})
        return logits, state['activations'], state['params']

    with layers.plain_forms():
        image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        closed, (_, activations, params) = jax.make_jaxpr(forward, return_shape=True)(image)
    parameters = {}  # of each module that has some of its own: a layer
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        module = tuple(key.key for key in path[:-1])
        parameters[module] = parameters.get(module, 0) + math.prod(leaf.shape)

    # A module is visited after those in it, and listed before them.
    modules = {path[:depth]: kinds[path[:depth]] for path in kinds for depth in range(len(path) + 1)}
    nodes = [Node('input', (), '', tuple(image_shape), ())]
    table = dict.fromkeys((*_JITTED, 'otherwise'), _Reader(modules, parameters, nodes).rule)
    rules = Rules('drawing (architectures/dataflow.py)', follows=_Made, table=table)
    last, *others = walk(rules, closed, [_Made(0)])
    for name, index in zip(sorted(activations), others, strict=False):
        if not nodes[index].scope:  # a block's last layer has its own name, or none
            nodes[index] = nodes[index]._replace(name=nodes[index].name or name)
    return Graph(tuple(nodes[: last + 1]), modules)  # what runs behind the output would be no part of it


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


class _Made(int):
    """The index of the node that a value comes from."""


class _Reader:
    """The nodes so far, and the rule that adds to them; of the modules {path: class} and {path: own parameters}."""

    def __init__(self, modules, parameters, nodes):
        self.modules, self.parameters, self.nodes = modules, parameters, nodes
        self.layer = None  # `owner` of the last node, if it is a layer

    def rule(self, operation, *operands):
        """Adds an operation to the layer that it belongs to, or as a node, or passes it over."""
        name, sources = operation.name, tuple(x for x in operands if isinstance(x, _Made))
        layer, path = self.owner(operation.scope[1:])
        if layer:
            return self.extend(layer, path, operation, sources)
        if name in _PASSING or (name in _BY_A_NUMBER and any(x.shape == () for x in operation.inputs)):
            (source,) = sources
            return source
        kind = _OPERATIONS.get(name) or (len(sources) == 2 and _OF_TWO.get(name))
        if not kind or (kind == 'concat' and operation.params['dimension'] != len(operation.outputs[0].shape) - 1):
            return NotImplemented
        self.nodes.append(Node(kind, path, '', _shape(operation), sources))
        self.layer = None
        return _Made(len(self.nodes) - 1)

    def owner(self, scopes):
        """(layer, path of the module that it is in) of an operation within these scopes, from outside to inside.

        The layer is the name of a module with parameters or of a function, or '' where the operation is in neither.
        """
        path = ()
        for scope in scopes:
            if (*path, scope) in self.parameters:
                return scope, path
            if (*path, scope) in self.modules:
                path = (*path, scope)
            elif scope in _FUNCTIONS:
                return scope, path
        return '', path

    def extend(self, layer, path, operation, sources):
        """Adds an operation to its layer: the last one, or a new one."""
        if self.layer != (layer, path):
            inner = (*path, layer)
            known = inner in self.parameters
            kind = _MODULES.get(self.modules[inner].__name__, '') if known else _FUNCTIONS[layer]
            name, own = (layer, self.parameters[inner]) if known else ('', 0)
            self.nodes.append(Node(kind, path, name, (), (), parameters=own))
            self.layer = (layer, path)
        index, node = _Made(len(self.nodes) - 1), self.nodes[-1]
        inputs = dict.fromkeys(source for source in (*node.inputs, *sources) if source != index)
        details = _DETAILS.get((node.kind, operation.name), lambda *_: {})
        changed = details(operation.params, *operation.inputs) | {'shape': _shape(operation), 'inputs': tuple(inputs)}
        self.nodes[-1] = node._replace(**changed)
        return index


def _shape(operation):
    shape = tuple(operation.outputs[0].shape[1:])
    return shape if len(shape) == 3 else (1, 1, math.prod(shape))


def _convolution(params, x, kernel):
    rows, columns = (kernel.shape[axis] for axis in params['dimension_numbers'].rhs_spec[2:])
    sizes = {'kernel': (rows, columns), 'stride': params['window_strides'][0], 'groups': params['feature_group_count']}
    return {'kind': 'convolution', **sizes}


def _pool(params, x):
    return {'kernel': params['window_dimensions'][1:3], 'stride': params['window_strides'][1]}


_DETAILS = {  # (kind of a layer so far, operation in it): the fields that the operation sets
    ('', 'conv_general_dilated'): _convolution,
    ('', 'dot_general'): lambda params, x, kernel: {'kind': 'fully connected'},
    ('max pool', 'reduce_window_max'): _pool,
    ('average pool', 'reduce_window_sum'): _pool,
    ('subsample', 'slice'): lambda params, x: {'stride': max(params['strides'] or (1,))},
}
