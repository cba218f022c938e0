"""A safe reader of pickles: nothing in them is executed, and Python's pickle is never used.

A pickle is a program for a small stack machine, which is interpreted here opcode by opcode. The functions that it names
are not imported: the caller decides what each returns, and unknown ones return a `Foreign`.
"""

import pickletools
from typing import NamedTuple

from runtime.errors import UserError


class Broken(Exception):
    """The pickle is invalid; the message says where."""


class Global(NamedTuple):
    """A name that the pickle refers to, not imported."""

    module: str
    name: str

    def __str__(self):
        return f'{self.module}.{self.name}'


class Foreign(NamedTuple):
    """A placeholder for the object of a class or function that the caller does not know; nothing was run."""

    name: str

    def __str__(self):
        return self.name


def load(file, path, call, persistent=None, build=None):
    """Interpret one pickle and return its object.

    Args:
      file: a binary file at the first opcode.
      path: the path, for messages.
      call: (Global or Foreign, arguments) -> object; a `Foreign` for unknown functions.
      persistent: identifier -> the object stored outside the pickle; None if there are none.
      build: (object, state) -> None, sets the attributes of an object that is not a dict; None if there are none.

    Raises:
      Broken: the pickle is invalid.
      UserError: the pickle has an operation that files of data do not need.
    """
    stack, marks, memo, copied = [], [], {}, 0

    def pop_mark():
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    try:
        for opcode, argument, position in pickletools.genops(file):
            name = opcode.name
            if name in _VALUES:
                stack.append(argument)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name]())
            elif name in ('PROTO', 'FRAME'):
                pass
            elif name == 'MARK':
                marks.append(len(stack))
            elif name in ('BINPUT', 'LONG_BINPUT', 'PUT'):
                memo[argument] = stack[-1]
            elif name == 'MEMOIZE':
                memo[len(memo)] = stack[-1]
            elif name in ('BINGET', 'LONG_BINGET', 'GET'):
                stack.append(memo[argument])
            elif name in ('TUPLE1', 'TUPLE2', 'TUPLE3'):
                count = int(name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            elif name == 'TUPLE':
                stack.append(tuple(pop_mark()))
            elif name == 'LIST':
                stack.append(pop_mark())
            elif name == 'DICT':
                stack.append(_pairs(pop_mark()))
            elif name in ('APPEND', 'APPENDS'):
                items = [stack.pop()] if name == 'APPEND' else pop_mark()
                if not isinstance(stack[-1], Foreign):
                    _of(list, stack[-1]).extend(items)
            elif name in ('SETITEM', 'SETITEMS'):
                items = [stack.pop(), stack.pop()][::-1] if name == 'SETITEM' else pop_mark()
                if not isinstance(stack[-1], Foreign):
                    target, new = _of(dict, stack[-1]), _pairs(items)
                    if target.keys() & new.keys():
                        raise Broken('it has a key twice')
                    target.update(new)
            elif name == 'EMPTY_SET':
                stack.append(Foreign('set'))
            elif name == 'FROZENSET':
                pop_mark()
                stack.append(Foreign('frozenset'))
            elif name == 'ADDITEMS':
                pop_mark()
            elif name == 'GLOBAL':
                stack.append(Global(*argument.split(' ', 1)))
            elif name == 'STACK_GLOBAL':
                stack[-2:] = [Global(_of(str, stack[-2]), _of(str, stack[-1]))]
            elif name == 'BINPERSID' and persistent:
                stack.append(persistent(stack.pop()))
            elif name in ('REDUCE', 'NEWOBJ', 'NEWOBJ_EX'):
                if name == 'NEWOBJ_EX':
                    stack.pop()
                arguments = _of(tuple, stack.pop())
                copied += sum(len(part) for part in arguments if isinstance(part, list | tuple | dict))
                if copied > position + _FEW:  # a function may copy them; a file has each of them once
                    raise Broken('it repeats its content in more memory than the file has')
                stack.append(call(_of(Global | Foreign, stack.pop()), arguments))
            elif name == 'BUILD':
                state = stack.pop()
                if build and not isinstance(stack[-1], dict | Foreign):
                    build(stack[-1], state)
                elif not isinstance(stack[-1], Foreign):  # attributes of an OrderedDict: a state dict's versions
                    _of(dict, stack[-1])
            elif name == 'POP':
                stack.pop()
            elif name == 'STOP':
                return stack.pop()
            else:
                raise UserError(
                    f'{path} has the pickle operation {name}, which is not allowed in data; nothing was run'
                )
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise Broken(f'its pickle is invalid: {error}') from None
    raise Broken('its pickle is truncated')


_FEW = 1000
_VALUES = (
    'BININT', 'BININT1', 'BININT2', 'LONG1', 'LONG4', 'INT', 'LONG', 'BINFLOAT', 'FLOAT', 'BINUNICODE',
    'SHORT_BINUNICODE', 'BINUNICODE8', 'UNICODE', 'SHORT_BINSTRING', 'BINSTRING', 'SHORT_BINBYTES', 'BINBYTES',
)  # fmt: skip
_CONSTANTS = {
    'NONE': lambda: None,
    'NEWTRUE': lambda: True,
    'NEWFALSE': lambda: False,
    'EMPTY_DICT': dict,
    'EMPTY_LIST': list,
    'EMPTY_TUPLE': tuple,
}


def _of(kind, value):
    if not isinstance(value, kind):
        expected = getattr(kind, '__name__', 'function')
        raise Broken(f'its pickle has a {type(value).__name__} in place of a {expected}')
    return value


def _pairs(items):
    """Return a dict of alternating keys and values; see `dict_of`."""
    return dict_of(zip(items[::2], items[1::2], strict=True))


def dict_of(pairs):
    """Return a dict of (key, value) pairs.

    Nested tuples are rejected as keys: hashing one takes exponential time if each level contains the next one twice.
    """
    pairs = [(key, value) for key, value in pairs]
    if any(isinstance(key, tuple) and any(isinstance(part, tuple) for part in key) for key, _ in pairs):
        raise Broken('it has a key that is a tuple of tuples')
    values = dict(pairs)
    if len(values) < len(pairs):
        raise Broken('it has a key twice')
    return values
