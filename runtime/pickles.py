"""Pickles read as data: nothing in them is executed, and Python's pickle is never used.

A pickle is a program for a small stack machine. Here it is read opcode by opcode. The functions that it names are not
imported: the caller says what comes of each, and of those that it does not know comes a `Foreign`.
"""

import pickletools
from typing import NamedTuple

from runtime.errors import UserError


class Broken(Exception):
    """The program does not make sense; its message says where."""


class Global(NamedTuple):
    """A name that the pickle refers to; nothing is imported."""

    module: str
    name: str

    def __str__(self):
        return f'{self.module}.{self.name}'


class Foreign(NamedTuple):
    """An object of a class or function that the caller does not know. It was not made: nothing was run."""

    name: str

    def __str__(self):
        return self.name


def load(file, path, call, persistent=None, build=None):
    """What one pickled program leaves on its stack.

    Args:
      file: in binary, from the first opcode on.
      path: for messages.
      call: (Global or Foreign, arguments) -> the object, `Foreign` for functions that it does not know.
      persistent: identifier -> the object that lies outside the pickle; None where there are none.
      build: (object, state) of an object that is not a dict and gets attributes; None where there are none.

    Raises:
      Broken: it makes no sense.
      UserError: it asks for what no such file does.
    """
    stack, marks, memo = [], [], {}

    def pop_mark():
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    try:
        for opcode, argument, _ in pickletools.genops(file):
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
                    _of(dict, stack[-1]).update(_pairs(items))
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
                arguments = stack.pop()
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
                raise UserError(f'{path} asks for {name}, which no file of data does; it is refused, nothing was run')
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise Broken(f'its pickle makes no sense: {error}') from None
    raise Broken('its pickle has no end')


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
        wanted = getattr(kind, '__name__', 'function')
        raise Broken(f'its pickle has a {type(value).__name__} where a {wanted} should be')
    return value


def _pairs(items):
    """A dict of keys and values in turn. Keys are hashed, which takes for ever of a tuple that holds itself twice."""
    keys = items[::2]
    deep = next((key for key in keys if isinstance(key, tuple) and any(isinstance(part, tuple) for part in key)), None)
    if deep is not None:
        raise Broken('it has a key that is a tuple of tuples')
    return dict(zip(keys, items[1::2], strict=True))
