"""The interpreter of traced networks: a walk over a jaxpr that applies a table of rules.

A jaxpr is the list of operations that a function would run; `jax.make_jaxpr` records it from the shapes of the inputs,
without computing anything. Each equation (`c = add a b`) applies one primitive, such as `add` or
`conv_general_dilated`, to inputs and to results of earlier equations; strides, axes and the like are its parameters. A
call of an inner function that is jitted or has a custom gradient is one equation with a jaxpr inside.

With a rule for each primitive, the walk computes a value for each output of the function. If the values are arrays,
this is how JAX runs a jaxpr. The interpreters of this project differ in what a value is, and in their rules:

  `architectures.receptive_field`  a value is the part of the image that a map sees
  `architectures.dataflow`         the layer, in a drawing, that a map comes from
  `weights.onnx_file`              the name of a map in an ONNX file
  `training.sdlm`                  a second derivative: the backward pass with its factors squared
"""

from typing import Any, NamedTuple

from jax.extend.core import Literal

from runtime.errors import UserError

_JITTED = {'jit', 'pjit'}
_CALLS = _JITTED | {'closed_call', 'core_call', 'custom_jvp_call', 'custom_vjp_call', 'remat', 'remat2', 'checkpoint'}


def walk(rules, jaxpr, inputs, scope=()):
    """Return the values of a jaxpr's outputs.

    Args:
      rules: a `Rules`.
      jaxpr: a jaxpr, closed or not.
      inputs: a value for each input: of class `rules.follows`, an array, or None.
      scope: names of the modules and functions around the jaxpr.

    Raises:
      UserError: an operation has no rule.
    """
    jaxpr, consts = getattr(jaxpr, 'jaxpr', jaxpr), getattr(jaxpr, 'consts', ())  # an inner jaxpr may not be closed
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        shapes = ([atom.aval for atom in atoms] for atoms in (equation.invars, equation.outvars))
        names = filter(None, str(equation.source_info.name_stack).split('/'))
        operation = Operation(equation.primitive, equation.params, *shapes, (*scope, *names))
        results = _apply(rules, operation, [read(atom) for atom in equation.invars])
        results = results if isinstance(results, list) else [results] * len(equation.outvars)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(rules, operation, operands):
    """Apply one operation; return one value for all results, or a list with a value for each."""
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
    """The rules of an interpreter.

    A rule is called as `rule(operation, *operands)`. At least one operand is of the class `follows`; the others are
    arrays, or None if not computed. It returns one value for all results, a list with a value for each, or
    NotImplemented if it does not apply.

    Fields:
      title: name of the interpreter, for the error about an operation without a rule.
      follows: class of the values that depend on the followed inputs.
      table: {operation name: rule}; 'otherwise' is the default. A call without a rule is walked into.
      computes: whether to compute operations that do not depend on followed inputs; otherwise their value is None.
    """

    title: str
    follows: type
    table: dict
    computes: bool = False


class Operation(NamedTuple):
    """One equation of a jaxpr, as passed to rules.

    Fields:
      primitive: the JAX primitive.
      params: its parameters, {name: value}.
      inputs, outputs: abstract values, with `.shape` and `.dtype`, of the operands and of the results.
      scope: the modules and named functions around it, outermost first, such as ('AlexNet', 'conv1').
    """

    primitive: Any
    params: dict
    inputs: list
    outputs: list
    scope: tuple

    @property
    def name(self):
        """The name of the primitive; 'NAME()' if it calls the jitted function NAME."""
        return f'{self.params["name"]}()' if self.primitive.name in _JITTED else self.primitive.name

    def compute(self, *operands):
        """Apply the primitive to arrays; return an array or a list of arrays."""
        results = self.primitive.bind(*operands, **self.params)
        return list(results) if self.primitive.multiple_results else results
