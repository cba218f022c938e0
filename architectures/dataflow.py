"""A network as a graph of its layers, found by tracing it; nothing is computed.

The edges are those of the computation: what a residual addition adds, what a module concatenates, what a gate scales.
A layer is a module with parameters, a named function of `layers` (`jax.named_call`), or an operation between these.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from architectures import layers, stages
from architectures.graph import Rules, walk

# The modules, named functions and operations that are layers, with the names shown to readers.
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
_BINARY = {'add': 'add', 'mul': 'multiply'}
_IGNORED = ('reshape', 'squeeze', 'broadcast_in_dim', 'convert_element_type', 'transpose', 'copy', 'neg')
_SCALAR_ARITHMETIC = ('add', 'sub', 'mul', 'div')  # ignored where one operand is a scalar

ACTIVATIONS = ('ReLU', 'leaky ReLU', 'PReLU', 'tanh', 'scaled tanh', 'sigmoid')
NORMS = ('batch norm', 'LRN')
JOINS = ('add', 'multiply', 'concat')


class Node(NamedTuple):
    """A layer of the graph.

    Fields:
      kind: 'input', 'convolution', 'fully connected', 'max pool', ..., or one of NORMS, ACTIVATIONS and JOINS.
      scope: path of the module that contains the layer; () is the network.
      name: name of the layer within its scope: its module's name, else the name under which the network stores its
        activation, else ''.
      shape: (H, W, C) of the output for one image; a vector is 1x1.
      inputs: indices of the nodes that it reads; for a concatenation, in order.
      kernel: (rows, columns) of a convolution or a pooling window, or None.
      stride: stride of the convolution or pooling window.
      groups: groups of a convolution.
      parameters: number of trainable scalars.
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
    """The layers of a network, in the order in which they run.

    Fields:
      nodes: the layers; the first is the input, the last is the output.
      modules: {path: class} of all modules; an outer module precedes those inside it.
    """

    nodes: tuple
    modules: dict

    @property
    def blocks(self):
        """The paths of all `layers.Block` modules."""
        return [path for path, kind in self.modules.items() if issubclass(kind, layers.Block)]


class Parallel(NamedTuple):
    """Branches that run in parallel.

    Fields:
      join: the node where the branches meet.
      branches: the sequence of each branch, in the order of the join's inputs; an empty one is an identity.
    """

    join: int
    branches: list


def trace(model, image_shape):
    """Trace a network as deployed, without auxiliary heads, and return its `Graph`.

    Args:
      model: a network of `architectures.create`.
      image_shape: (H, W, C).

    Raises:
      UserError: an operation of the network has no rule here.
    """
    model, kinds = stages.unrolled(model), {}

    def visit(module, arguments, output):
        kinds[module.path] = type(module)

    def forward(images):
        collections = ['params', 'batch_stats', 'activations']
        with layers.on_call(visit):
            logits, state = model.apply({}, images, mutable=collections, rngs={'params': jax.random.key(0)})
        return logits, state['activations'], state['params']

    with layers.plain_forms():
        image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        closed, (_, activations, params) = jax.make_jaxpr(forward, return_shape=True)(image)
    parameters = {}  # of the modules that have any directly: these are layers
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        module = tuple(key.key for key in path[:-1])
        parameters[module] = parameters.get(module, 0) + math.prod(leaf.shape)

    # `visit` sees inner modules first; `modules` lists outer ones first.
    modules = {path[:depth]: kinds[path[:depth]] for path in kinds for depth in range(len(path) + 1)}
    nodes = [Node('input', (), '', tuple(image_shape), ())]
    table = dict.fromkeys((*_JITTED, 'otherwise'), _GraphBuilder(modules, parameters, nodes).rule)
    rules = Rules('drawing (architectures/dataflow.py)', follows=_Index, table=table)
    last, *named = walk(rules, closed, [_Index(0)])
    for name, index in zip(sorted(activations), named, strict=False):
        if not nodes[index].scope:  # the last layer of a block does not take the block's name
            nodes[index] = nodes[index]._replace(name=nodes[index].name or name)
    return Graph(tuple(nodes[: last + 1]), modules)  # drop what does not lead to the output


def part(graph, path):
    """Return the `Graph` of one module; what it reads becomes the input."""
    inside = [index for index, node in enumerate(graph.nodes) if node.scope[: len(path)] == path]
    outer = sorted({source for index in inside for source in graph.nodes[index].inputs} - set(inside))
    places = {index: place for place, index in enumerate([*outer, *inside])}
    nodes = [Node('input', (), '', graph.nodes[index].shape, ()) for index in outer]
    for index in inside:
        node = graph.nodes[index]
        nodes.append(node._replace(inputs=tuple(places[source] for source in node.inputs)))
    modules = {inner: kind for inner, kind in graph.modules.items() if inner[: len(path)] == path}
    return Graph(tuple(nodes), modules)


def flat(graph):
    """Return the graph with nested concatenations merged into one."""
    nodes = []
    for node in graph.nodes:
        if node.kind == 'concat':
            inner = [nodes[source].inputs if nodes[source].kind == 'concat' else (source,) for source in node.inputs]
            node = node._replace(inputs=tuple(source for sources in inner for source in sources))
        nodes.append(node)
    return graph._replace(nodes=tuple(nodes))


def consumers(inputs):
    """Return, for each vertex, the vertices that read it; `inputs` has the vertices that each one reads."""
    readers = [[] for _ in inputs]
    for vertex, sources in enumerate(inputs):
        for source in dict.fromkeys(sources):
            readers[source].append(vertex)
    return readers


def sequence(inputs):
    """Return a graph as a sequence: a list of vertices and of `Parallel`, without the first vertex.

    Args:
      inputs: the vertices that each vertex reads, all of them earlier ones; the first reads none, and every vertex
        leads to the last.

    Raises:
      ValueError: the graph is not a nesting of chains and of branches that meet again.
    """
    readers = consumers(inputs)
    meets = [*range(len(inputs))]  # for each vertex, the first later one that is on all its paths
    for vertex in range(len(inputs) - 2, -1, -1):
        meet, *rest = readers[vertex]
        for other in rest:
            while meet != other:
                meet, other = (meets[meet], other) if meet < other else (meet, meets[other])
        meets[vertex] = meet

    def between(vertex, stop):
        elements = []
        while vertex != len(inputs) - 1:
            ahead = meets[vertex]
            if len(readers[vertex]) > 1:
                elements.append(parallel(vertex, ahead))
            elif ahead == stop:
                break
            elif len(inputs[ahead]) > 1:
                raise ValueError(f'vertex {ahead} reads from another branch')
            else:
                elements.append(ahead)
            vertex = ahead
        return elements

    def parallel(fork, join):
        branches = {}
        for reader in readers[fork]:
            branch = [] if reader == join else [reader, *between(reader, join)]
            branches[_last(branch) if branch else fork] = branch
        if set(branches) != set(inputs[join]):
            raise ValueError(f'vertex {join} reads from outside the branches of vertex {fork}')
        return Parallel(join, [branches[source] for source in inputs[join]])

    return between(0, len(inputs))


def _last(elements):
    return elements[-1].join if isinstance(elements[-1], Parallel) else elements[-1]


class _Index(int):
    """The index of the node that a value comes from."""


class _GraphBuilder:
    """Builds the list of nodes, one operation at a time.

    Args:
      modules: {path: class} of all modules.
      parameters: {path: count} of the modules that have parameters of their own.
      nodes: the list to append to.
    """

    def __init__(self, modules, parameters, nodes):
        self.modules, self.parameters, self.nodes = modules, parameters, nodes
        self.layer = None  # (layer, path) of the last node, or None if that is an operation

    def rule(self, operation, *operands):
        """Add an operation to its layer or as a node of its own, or ignore it; return the index of its node."""
        name, sources = operation.name, tuple(x for x in operands if isinstance(x, _Index))
        layer, path = self.owner(operation.scope[1:])
        if layer:
            return self.extend(layer, path, operation, sources)
        if name in _IGNORED or (name in _SCALAR_ARITHMETIC and any(x.shape == () for x in operation.inputs)):
            (source,) = sources
            return source
        kind = _OPERATIONS.get(name) or (len(sources) == 2 and _BINARY.get(name))
        if not kind or (kind == 'concat' and operation.params['dimension'] != len(operation.outputs[0].shape) - 1):
            return NotImplemented
        self.nodes.append(Node(kind, path, '', _shape(operation), sources))
        self.layer = None
        return _Index(len(self.nodes) - 1)

    def owner(self, scopes):
        """Return (layer, path of the module around it) for an operation within these scopes, outermost first.

        The layer is the name of a module with parameters or of a named function; '' if the operation is in neither.
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
        """Add an operation to its layer, which is the last node or a new one."""
        if self.layer != (layer, path):
            inner = (*path, layer)
            is_module = inner in self.parameters
            kind = _MODULES.get(self.modules[inner].__name__, '') if is_module else _FUNCTIONS[layer]
            name, parameters = (layer, self.parameters[inner]) if is_module else ('', 0)
            self.nodes.append(Node(kind, path, name, (), (), parameters=parameters))
            self.layer = (layer, path)
        index, node = _Index(len(self.nodes) - 1), self.nodes[-1]
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


_DETAILS = {  # (kind of the layer so far, operation): the fields that the operation sets
    ('', 'conv_general_dilated'): _convolution,
    ('', 'dot_general'): lambda params, x, kernel: {'kind': 'fully connected'},
    ('max pool', 'reduce_window_max'): _pool,
    ('average pool', 'reduce_window_sum'): _pool,
    ('subsample', 'slice'): lambda params, x: {'stride': max(params['strides'] or (1,))},
}
