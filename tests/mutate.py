"""Seeded damage for tests of readers: bit flips, cuts, exchanged numbers and parts, values of another type."""

import copy
import io
import json
import random
import struct
import zipfile

NUMBERS = (0, 1, -1, 127, 255, 2**15, 2**31 - 1, 2**31, -(2**31), 2**62, -(2**63))
VALUES = (None, True, 'text', '', -1, 0, 10**6, 2**62, 0.5, float('nan'), [], {}, [[]], {'a': None}, [0] * 65)


def damaged(whole, seed, count):
    """Yield `count` damaged copies of some bytes."""
    draw = random.Random(seed)
    for _ in range(count):
        data = bytearray(whole)
        start, stop = sorted(draw.randrange(len(data) + 1) for _ in range(2))
        kind = draw.randrange(7)
        if kind == 0:
            for _ in range(draw.choice((1, 1, 3))):
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[start:]
        elif kind == 2:
            del data[start : min(stop, start + 16)]
        elif kind == 3:  # a length, a count or a type
            form = draw.choice(('<b', '<h', '<i', '<q', '>i', '>q'))
            bits = 8 * struct.calcsize(form)
            number = (draw.choice(NUMBERS) + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
            data[start : start + bits // 8] = struct.pack(form, number)
        elif kind == 4:
            data[start:start] = data[start : start + 40]
        elif kind == 5:
            data[start:stop] = bytes(stop - start)
        else:
            other = draw.randrange(len(data))
            data[start : start + 8], data[other : other + 8] = data[other : other + 8], data[start : start + 8]
        yield bytes(data)


def damaged_zip(whole, seed, count):
    """Yield `count` zip archives with right checksums and a damaged, renamed, repeated or missing member."""
    draw = random.Random(seed)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    for number in range(count):
        changed, at = list(members), draw.randrange(len(members))
        name, data = changed[at]
        kind = draw.choice(('data', 'data', 'data', 'name', 'missing', 'exchange'))
        if kind == 'data' and data:
            changed[at] = name, next(damaged(data, seed + number, 1))
        elif kind == 'name':
            changed[at] = draw.choice(members)[0] + draw.choice(('', 'x')), data
        elif kind == 'missing':
            del changed[at]
        else:
            changed[at] = name, draw.choice(members)[1]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, 'w') as archive:
            for name, data in changed:
                archive.writestr(zipfile.ZipInfo(name), data)
        yield packed.getvalue()


def damaged_json(value, seed, count):
    """Yield `count` JSON texts, bytes, in which one value has another type, is missing, is huge or is nested deeply."""
    draw = random.Random(seed)
    for _ in range(count):
        tree = [copy.deepcopy(value)]
        parent, key = tree, 0
        while isinstance(parent[key], dict | list) and parent[key] and draw.random() < 0.85:
            parent = parent[key]
            key = draw.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        kind = draw.randrange(6)
        if kind == 0 and isinstance(parent, dict):
            del parent[key]
        elif kind == 1:
            parent[key] = '@'
            yield json.dumps(tree[0]).replace('"@"', '[' * 5000 + ']' * 5000).encode()
            continue
        else:
            parent[key] = draw.choice(VALUES)
        yield json.dumps(tree[0]).encode()
    yield b'\xff' + json.dumps(value).encode()
