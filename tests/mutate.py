"""Seeded damage for tests of readers: bit flips, cuts, exchanged numbers and parts, values of another type."""

import copy
import gzip
import io
import json
import random
import struct
import tarfile
import zipfile
import zlib

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
    for _ in range(count):
        changed, at = list(members), draw.randrange(len(members))
        name, data = changed[at]
        kind = draw.choice(('data', 'data', 'data', 'name', 'missing', 'exchange'))
        if kind == 'data' and data:
            changed[at] = name, next(damaged(data, draw.getrandbits(32), 1))
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


def damaged_lines(whole, seed, count):
    """Yield `count` copies of lines of JSON, of which one line is damaged as by `damaged_json`."""
    draw = random.Random(seed)
    for _ in range(count):
        lines = whole.splitlines(keepends=True)
        at = draw.randrange(len(lines))
        lines[at] = next(damaged_json(json.loads(lines[at]), draw.getrandbits(32), 1)) + b'\n'
        yield b''.join(lines)


def damaged_gzip(whole, seed, count):
    """Yield `count` gzip files with right checksums and damaged contents."""
    return (gzip.compress(data, 1, mtime=0) for data in damaged(gzip.decompress(whole), seed, count))


def damaged_tar(whole, seed, count):
    """Yield `count` tars of which one header, with a right checksum, has another size, type or name."""
    draw, headers = random.Random(seed), _tar_headers(whole)
    for _ in range(count):
        data, at = bytearray(whole), draw.choice(headers)
        kind = draw.randrange(4)
        if kind == 0:
            size = draw.choice((*NUMBERS, 511, 512, 513, len(whole)))
            data[at + 124 : at + 136] = b'%011o\0' % size if 0 <= size < 8**11 else (size % 2**96).to_bytes(12, 'big')
        elif kind == 1:
            data[at + 156] = draw.choice(b'01234567LKxgXSN\0 \xff')
        elif kind == 2:
            name = draw.choice((b'', b'a.JPEG', b'../a.JPEG', b'/a', b'n9.tar', b'\xff\xfe.JPEG', b'x' * 100))
            data[at : at + 100] = name.ljust(100, b'\0')
        else:
            place = at + draw.randrange(512)
            data[place] = draw.randrange(256)
        data[at + 148 : at + 156] = b' ' * 8
        data[at + 148 : at + 156] = b'%06o\0 ' % sum(data[at : at + 512])
        yield bytes(data)


def _tar_headers(whole):
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        members = archive.getmembers()
    inside = [
        member.offset_data + at
        for member in members
        if member.name.endswith('.tar')
        for at in _tar_headers(whole[member.offset_data : member.offset_data + member.size])
    ]
    return [member.offset for member in members] + inside


def damaged_png(whole, seed, count):
    """Yield `count` PNGs with right checksums and a damaged, repeated, missing or exchanged chunk."""
    draw, chunks, at = random.Random(seed), [], 8
    while at < len(whole):
        (size,) = struct.unpack_from('>I', whole, at)
        chunks.append((whole[at + 4 : at + 8], whole[at + 8 : at + 8 + size]))
        at += 12 + size
    for _ in range(count):
        changed, at = list(chunks), draw.randrange(len(chunks))
        kind, data = changed[at]
        choice = draw.choice(('data', 'data', 'data', 'pixels', 'missing', 'twice', 'kind'))
        if choice == 'data' and data:
            changed[at] = kind, next(damaged(data, draw.getrandbits(32), 1))
        elif choice == 'pixels' and kind == b'IDAT':
            changed[at] = kind, zlib.compress(next(damaged(zlib.decompress(data), draw.getrandbits(32), 1)))
        elif choice == 'missing':
            del changed[at]
        elif choice == 'twice':
            changed.insert(at, changed[at])
        else:
            changed[at] = draw.choice((b'IDAT', b'PLTE', b'tRNS', b'IHDR', b'acTL', b'iCCP', b'zTXt', b'IEND')), data
        yield whole[:8] + b''.join(
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
            for kind, data in changed
        )


def damaged_mat(whole, seed, count):
    """Yield `count` MATLAB files of compressed elements, of which one, with a right checksum, is damaged."""
    draw, elements, at = random.Random(seed), [], 128
    while at < len(whole):
        (size,) = struct.unpack_from('<I', whole, at + 4)
        elements.append(whole[at + 8 : at + 8 + size])
        at += 8 + size
    for _ in range(count):
        changed, at = list(elements), draw.randrange(len(elements))
        changed[at] = zlib.compress(next(damaged(zlib.decompress(changed[at]), draw.getrandbits(32), 1)))
        yield whole[:128] + b''.join(struct.pack('<II', 15, len(data)) + data for data in changed)
