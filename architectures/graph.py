"""The one reader of traced networks: a walk over a jaxpr that applies a table of rules.

A jaxpr is the list of operations that a function would run, which `jax.make_jaxpr` writes down from the shapes of its
inputs, without computing anything. Each line of it (JAX says equation: `c = add a b`) applies one primitive, such as
`add` or `conv_general_dilated`, to inputs and results of earlier lines; strides, axes and the like are its parameters.
A function within the function that was jitted, or that has a gradient of its own, is one line with a jaxpr inside.

So whoever can say what each primitive makes of its operands can say what the function makes of its inputs. With arrays
for values, this is how JAX runs a jaxpr. The other readings of a network differ in what a value is, and in the rules:

  `architectures.receptive_field`  a value is the part of the image that a map sees
  `architectures.dataflow`         the layer, of a drawing, that a map comes from
  `weights.onnx_file`              the name, in an ONNX file, of a map
  `training.sdlm`                  a second derivative: the backward pass with its factors squared
"""

from typing import Any, NamedTuple

from jax.extend.core import Literal

from runtime.errors import UserError

_JITTED = {'jit', 'pjit'}
_CALLS = _JITTED | {'closed_call', 'core_call', 'custom_jvp_call', 'custom_vjp_call', 'remat', 'remat2', 'checkpoint'}


def walk(rules, jaxpr, inputs, scope=()):
    """The values of a jaxpr's outputs; `inputs` has a value for each input: followed, an array, or None.

    Raises:
      UserError: an operation has no rule.
    """
    jaxpr, consts = getattr(jaxpr, 'jaxpr', jaxpr), getattr(jaxpr, 'consts', ())  # an inner one may have no constants
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for line in jaxpr.eqns:
        shapes = ([atom.aval for atom in atoms] for atoms in (line.invars, line.outvars))
        names = filter(None, str(line.source_info.name_stack).split('/'))
        operation = Operation(line.primitive, line.params, *shapes, (*scope, *names))
        results = _apply(rules, operation, [read(atom) for atom in line.invars])
        results = results if isinstance(results, list) else [results] * len(line.outvars)
        values.update(zip(line.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(rules, operation, operands):
    """What one operation gives: a value for all results, or a list with a value for each."""
    followed = any(isinstance(value, rules.follows) for value in operands)
    if not followed and not rules.computes:
        return None
    if operation.primitive.name in _CALLS and operation.name not in rules.table:
        inner = operation.params.get('call_jaxpr') or operation.params['jaxpr']
        return walk(rules, inner, operands, operation.scope)
    if not followed:
        return operation.compute(*operands)
    rule = rules.table.get(operation.name) or rules.table.get('otherwise')
    results = rule(operation, *operands) if rule else NotImplemented
    if results is NotImplemented:
        where = '/'.join(operation.scope) or 'the function'
        raise UserError(f'{rules.title}: no rule for the operation {operation.name} in {where}')
    return results


class Rules(NamedTuple):
    """A reading of jaxprs.

    A rule is called as `rule(operation, *operands)`. At least one operand is of the class `follows`; the others are
    arrays, or None where nothing was computed. It returns a value for all results, or a list with a value for each, or
    NotImplemented where it does not hold.

    Fields:
      title: of the reading, for the error that names an operation without a rule.
      follows: the class of what depends on the inputs that are followed.
      table: {name of an operation: rule}; 'otherwise' has that of all others. A call without a rule is walked through.
      computes: whether operations that read nothing followed are computed; else they give None.
    """

    title: str
    follows: type
    table: dict
    computes: bool = False


class Operation(NamedTuple):
    """One line of a jaxpr, as rules read it.

    Fields:
      primitive: what JAX applies.
      params: its parameters, {name: value}; known when the function is traced.
      inputs, outputs: a `.shape` and `.dtype` for each operand and for each result.
      scope: the modules and named functions that it is in, outermost first, as in ('AlexNet', 'conv1').
    """

    primitive: Any
    params: dict
    inputs: list
    outputs: list
    scope: tuple

    @property
    def name(self):
        """The primitive's name; 'NAME()' where it calls the jitted function NAME."""
        return f'{self.params["name"]}()' if self.primitive.name in _JITTED else self.primitive.name

    def compute(self, *operands):
        """What JAX makes of arrays: an array, or a list of them."""
        results = self.primitive.bind(*operands, **self.params)
        return list(results) if self.primitive.multiple_results else results
