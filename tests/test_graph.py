"""The walk over jaxprs that all readings of networks share."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from architectures import graph, layers, receptive_field
from runtime.errors import UserError
from weights import onnx_file


class Followed:
    """An array that is known to depend on the input."""

    def __init__(self, array):
        self.array = array


def compute(operation, *operands):
    results = operation.compute(*(x.array if isinstance(x, Followed) else x for x in operands))
    return [Followed(x) for x in results] if isinstance(results, list) else Followed(results)


def read(function, x, **options):
    jaxpr = jax.make_jaxpr(function)(x)
    return graph.walk(graph.Rules('test', Followed, {'otherwise': compute}, **options), jaxpr, [Followed(x)])


def every_call(x):
    """Jitted, with a gradient of its own, recomputed; several results; a constant that is used inside of a call."""
    weights = np.arange(6.0, dtype=np.float32)
    a, b = jnp.split(jax.jit(lambda x: nn.relu(x) + weights)(x), 2)
    return jax.checkpoint(jnp.tanh)(a), nn.silu(b) * jnp.cos(jnp.float32(2))


def test_with_arrays_as_values_the_walk_is_how_jax_runs_a_jaxpr():
    x = jnp.linspace(-2, 2, 6)
    for ours, jaxs in zip(read(every_call, x, computes=True), every_call(x), strict=True):
        np.testing.assert_array_equal(ours.array, jaxs)


def test_what_depends_on_no_input_is_computed_or_is_none():
    def function(x):
        return x + 1, jnp.zeros(2) + 1

    x = jnp.ones(2)
    assert read(function, x, computes=True)[1].tolist() == [1, 1]
    assert read(function, x)[1] is None


def test_a_call_is_walked_through_unless_its_function_has_a_rule():
    seen = []

    def rule(operation, *operands):
        seen.append((operation.name, operation.scope, operation.outputs[0].shape))
        return Followed(0)

    jaxpr = jax.make_jaxpr(jax.named_call(lambda x: nn.leaky_relu(jnp.tanh(x)), name='squash'))(jnp.ones((2, 3)))
    for table in ({'otherwise': rule}, {'tanh': rule, 'leaky_relu()': rule}):
        graph.walk(graph.Rules('test', Followed, table), jaxpr, [Followed(0)])
    assert [name for name, _, _ in seen] == ['tanh', 'ge', 'mul', 'select_n', 'tanh', 'leaky_relu()']
    assert all(scope[0] == 'squash' and shape == (2, 3) for _, scope, shape in seen)


def test_an_operation_without_a_rule_ends_in_a_line_that_names_it(tmp_path):
    """As do `test_dataflow` and `test_sdlm`."""

    def sort(images):
        with jax.named_scope('conv1'):
            return jnp.sort(images, axis=1)

    images = jnp.ones((1, 4, 4, 1))
    with pytest.raises(UserError, match=r'^receptive field \(.*\): no rule for the operation sort in conv1'):
        receptive_field.fields(jax.make_jaxpr(sort)(images), [receptive_field.IMAGE])
    with pytest.raises(
        UserError, match='no rule for the operation broadcast_in_dim in the function$'
    ):  # which makes a map larger
        grown = jax.make_jaxpr(lambda images: jax.lax.broadcast_in_dim(images, (1, 8, 4, 4, 1), (0, 2, 3, 4)))(images)
        receptive_field.fields(grown, [receptive_field.IMAGE])
    with pytest.raises(UserError, match=r'^ONNX \(weights/onnx_file.py\): no rule for the operation sort in conv1'):
        onnx_file.write(tmp_path / 'm.onnx', sort, (4, 4, 1), 'sort')


def test_on_call_visits_inner_modules_first_and_layers_from_replaces_layers():
    class Doubled(layers.Layers):
        def activate(self, name, x):
            return 2 * super().activate(name, x)

    class Inner(layers.Block):
        @nn.compact
        def __call__(self, x):
            return self.layers(self.train).fc('fc', x, 3)

    class Outer(layers.Network):
        @nn.compact
        def __call__(self, images, train=False, dense=False):
            return Inner(**self.shared, name='inner')(images)

    model, x, visited = Outer(), jnp.ones((1, 1, 1, 2)), []
    variables = model.init(jax.random.key(0), x)
    with layers.on_call(lambda module, arguments, output: visited.append((module.path, output.shape))):
        plain = model.apply(variables, x)
    assert visited == [((*path,), (1, 1, 1, 3)) for path in (['inner', 'fc'], ['inner'], [])]
    with layers.layers_from(Doubled):
        np.testing.assert_array_equal(model.apply(variables, x), 2 * plain)
    np.testing.assert_array_equal(model.apply(variables, x), plain)
