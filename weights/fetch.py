"""Published weights by name, `hf://OWNER/NAME` or `torchvision:NAME`: fetched once, into the cache of their library.

Nothing is fetched unless the user named it. The address and the number of bytes are printed before.
"""

import contextlib
import functools
import http
import http.client
import os
import re
import socket
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np

from input_pipeline import colour, progress
from runtime import foreign, paths
from runtime.errors import UserError, first_line, nearest
from weights import files, homes
from weights.releases import center

_HUB, _TORCHVISION = 'hf://', 'torchvision:'
_HUB_NAME = re.compile(r'(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^\s/]+))?(/(?P<file>[\w.-]+(/[\w.-]+)*))?')
_SAFE = 'model.safetensors'
_SECONDS = 30  # without an answer
_BLOCK = 1 << 20  # bytes
_INSTEAD = 'or fetch the file elsewhere and convert it: python convert.py --arch NAME --source FILE --out DIR'
_LIST = '`python convert.py --list` lists releases'


class Fetched(NamedTuple):
    """A release, in a file on this machine.

    Fields:
      path: the file.
      arch: our name of its network.
      by: the release, or '' if the tensors' names determine it.
      pixels: config keys of its input, if it says them itself.
      origin: of its passport's source: {'address', 'revision', 'sha256'}; None for a file of the user's.
      licence: its license, or None if it is not known.
      class_names: the names of its classes, or () for those of the data set.
    """

    path: Path
    arch: str
    by: str = ''
    pixels: dict | None = None
    origin: dict | None = None
    licence: str | None = None
    class_names: tuple = ()


def is_name(source):
    """Return whether a source is the name of a release, not a file."""
    return str(source).startswith((_HUB, _TORCHVISION))


def fetch(source, arch='', say=print):
    """Fetch a release, or find it in the cache.

    Args:
      source: hf://OWNER/NAME[@REVISION][/FILE], or torchvision:NAME[@VERSION].
      arch: our name of its network; '' to infer it.
      say: called with each line that tells what is fetched from where.

    Returns:
      `Fetched`.

    Raises:
      UserError: there is no such release, it is not of one of our networks, it cannot be reached, or what was fetched
        is not what its home announced.
    """
    if source.startswith(_HUB):
        match = _HUB_NAME.fullmatch(source.removeprefix(_HUB))
        if not match or '..' in (match['file'] or '').split('/'):
            raise UserError(f'{source} is not hf://OWNER/NAME, hf://OWNER/NAME@REVISION or hf://OWNER/NAME/FILE')
        return _from_hub(source, match['repo'], match['revision'], match['file'] or _SAFE, arch, say)
    return _from_torchvision(source, arch, say)


def _host_problem(address):
    """Return why the host of an address has no address here, or '': the hub's client would try for half a minute."""
    url = urllib.parse.urlsplit(address)
    try:
        if url.scheme not in urllib.request.getproxies():
            socket.getaddrinfo(url.hostname, None)
    except OSError as error:
        return first_line(error.strerror or error)
    return ''


def _bytes(size, source):
    """Return '1,234 bytes'; raise UserError if that is unknown, or more than is read."""
    if size is None:
        raise UserError(f'{source}: its home does not say how many bytes it has, and nothing was fetched')
    if size > files.LARGEST:
        raise UserError(f'{source} has {size:,} bytes; weight files of at most {files.LARGEST:,} are read')
    return f'{size:,} bytes'


# The hub, through its own client


def _from_hub(source, repo, revision, file, arch, say):
    try:
        import huggingface_hub as hub
    except ImportError:
        raise UserError(f'{source} needs another package: pip install huggingface_hub') from None
    from huggingface_hub import constants, errors

    asking = functools.partial(_hub_errors, source, repo)
    say(f'{source}: looking it up at {constants.ENDPOINT}')
    problem = '' if constants.HF_HUB_OFFLINE else _host_problem(constants.ENDPOINT)
    if problem and not isinstance(hub.try_to_load_from_cache(repo, file, revision=revision), str):
        raise UserError(_unreachable(source, constants.ENDPOINT, problem))
    with asking():
        try:
            config_path = hub.hf_hub_download(repo, 'config.json', revision=revision)
            revision = Path(config_path).parent.name  # the commit: all files are of the same
        except errors.EntryNotFoundError as error:
            is_cached = isinstance(hub.try_to_load_from_cache(repo, file, revision=revision), str)
            if isinstance(error, errors.LocalEntryNotFoundError) and not is_cached:
                raise
            config_path = None
    config = _hub_config(config_path)
    arch, pixels = arch or _network(source, config), _pixels(source, config)
    with asking():
        try:
            found = hub.hf_hub_download(repo, file, revision=revision, dry_run=True)
        except errors.RemoteEntryNotFoundError:
            raise UserError(_other_files(source, file, hub.HfApi().list_repo_files(repo, revision=revision))) from None
    revision, size = found.commit_hash, _bytes(found.file_size, source)
    if found.is_cached:
        say(f'{file} of {repo}, revision {revision}, {size}, is in the cache')
    else:
        say(f'fetching {file} of {repo}, revision {revision}, {size}, from {constants.ENDPOINT}')
    licence = config.pretrained_cfg and config.pretrained_cfg.license
    with asking():
        path = Path(hub.hf_hub_download(repo, file, revision=revision))
        licence = licence or _license_of_card(hub, repo, revision)
    digest, blob = files.sha256(path), path.resolve()
    if re.fullmatch('[0-9a-f]{64}', blob.name) and blob.name != digest:  # the cache names a file by its home's SHA-256
        raise UserError(
            f'{source}: {blob} has the SHA-256 {digest[:8]}..., not {blob.name[:8]}... as at its home; '
            'delete it and run this again'
        )
    names = config.label_names if isinstance(config.label_names, list) else ()
    names = tuple(names) if all(isinstance(name, str) for name in names) else ()
    origin = {'address': f'{_HUB}{repo}', 'revision': revision, 'sha256': digest}
    return Fetched(path, arch, '', pixels, origin, licence, names)


def _unreachable(source, home, reason):
    problem = f'{home} cannot be reached ({reason})'
    return f'{source} is not in the cache, and {problem}: run this again when it can, {_INSTEAD}'


@contextlib.contextmanager
def _hub_errors(source, repo):
    """Turn the errors of the hub's client into UserErrors, and keep its warnings from the terminal."""
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import logging

    home, verbosity = constants.ENDPOINT, logging.get_verbosity()
    logging.set_verbosity_error()  # it announces each new attempt
    try:
        with foreign.parsing(source, f'a release that {home} serves', f'run this again, {_INSTEAD}'):
            try:
                yield
            except errors.GatedRepoError:
                raise UserError(
                    f'{source} is gated: accept its terms at {home}/{repo}, log in with `hf auth login`, '
                    'and run this again'
                ) from None
            except errors.RepositoryNotFoundError:
                close = nearest(repo, [f'timm/{release}' for release in homes.on_hub()])
                raise UserError(f'{home} has no {repo}, or it is private{close} {_LIST}') from None
            except errors.RevisionNotFoundError:
                raise UserError(f'{source}: {repo} has no such revision: see {home}/{repo}/commits') from None
            except errors.LocalEntryNotFoundError as error:
                if constants.HF_HUB_OFFLINE:
                    raise UserError(
                        f'{source} is not in the cache, and HF_HUB_OFFLINE is set: unset it, {_INSTEAD}'
                    ) from None
                raise UserError(_unreachable(source, home, first_line(error.__cause__ or error))) from None
            except errors.HTTPError as error:  # of httpx, or of httpx2
                raise UserError(
                    f'{source} was not fetched, {home} broke off ({first_line(error)}): run this again, {_INSTEAD}'
                ) from None
    finally:
        logging.set_verbosity(verbosity)


_Side = Annotated[int, msgspec.Meta(ge=1, le=4096)]
_Share = Annotated[float, msgspec.Meta(ge=0.1, le=1)]


class _Pretrained(msgspec.Struct):
    """What is read of a config.json's `pretrained_cfg`, as timm writes it."""

    input_size: tuple[_Side, _Side, _Side] | None = None
    test_input_size: tuple[_Side, _Side, _Side] | None = None
    interpolation: Literal['bilinear', 'bicubic'] = 'bilinear'
    crop_pct: _Share = 0.875
    test_crop_pct: _Share | None = None
    crop_mode: Literal['center'] = 'center'
    mean: list[float] | None = None
    std: list[float] | None = None
    license: str | None = None


class _HubConfig(msgspec.Struct):
    """What is read of a config.json; `architectures` and `model_type` are of other libraries."""

    architecture: str = ''
    architectures: list[str] | None = None
    model_type: str | None = None
    label_names: Any = None
    pretrained_cfg: _Pretrained | None = None


def _hub_config(path):
    if path is None:
        return _HubConfig()
    return foreign.read_json(path, _HubConfig, 'the config of a release', advice='pass a file with --arch and --source')


def _network(source, config):
    """Return our name of the network that a config.json names."""
    known = homes.networks(*homes.ON_HUB)
    theirs = config.architecture or next(iter(config.architectures or ()), '') or config.model_type
    if not theirs:
        raise UserError(f'{source} has no config.json that names its network: pass --arch NAME')
    if theirs not in known:
        raise UserError(
            f'{source} is of the network {theirs}, which is not one of ours{nearest(theirs, known)} {_LIST}'
        )
    return known[theirs]


def _pixels(source, config):
    """Return config keys of the input of timm's test."""
    pretrained = config.pretrained_cfg
    size = pretrained and (pretrained.test_input_size or pretrained.input_size)
    if not size or size[0] != 3:
        return {}
    share = (pretrained.test_input_size and pretrained.test_crop_pct) or pretrained.crop_pct
    short_side = int(size[-1] / share)
    mean = _constant(source, 'mean', pretrained.mean, colour.MEANS)
    std = _constant(source, 'std', pretrained.std, colour.STDS)
    options = {'short_side': (short_side, short_side), 'filter': pretrained.interpolation, 'center_rounds': 'even'}
    return center(mean, std, size[-1], **options)


def _constant(source, key, values, table):
    """Return the name in `colour` of a mean or a standard deviation that is given for pixels of 0..1."""
    for name, known in table.items():
        known = np.broadcast_to(np.asarray(known, np.float64), 3) / 255 if np.size(known) in (1, 3) else ()
        if values and len(values) == len(known) and np.allclose(values, known, rtol=0, atol=1e-4):
            return name
    raise UserError(f'{source}: its config.json has the {key} {values}, which is none of {", ".join(table)}')


def _other_files(source, file, there):
    """Return the message that a release lacks a file."""
    readable = [name for name in there if name.endswith(files.SUFFIXES)]
    if not readable:
        return f'{source} has no weight file that can be read; known: {", ".join(files.SUFFIXES)}'
    named = ', '.join(f'{source.removesuffix("/" + file)}/{name}' for name in readable[:4])
    return f'{source} has no {file}; to read another of its files as data, pass --source {named}'


def _license_of_card(hub, repo, revision):
    """Return the license in the first lines of a release's README.md, or None."""
    from huggingface_hub import errors

    try:
        path = hub.hf_hub_download(repo, 'README.md', revision=revision)
    except errors.EntryNotFoundError:
        return None
    text = foreign.read_regular(path, foreign.JSON_LIMIT).decode('utf-8', 'replace')
    found = re.match(r'---\n(?:(?!---\n).*\n)*?license: *(\S+)', text)
    return found and found[1]


# torchvision


def _from_torchvision(source, arch, say):
    name, _, version = source.removeprefix(_TORCHVISION).partition('@')
    if name not in homes.TORCHVISION:
        raise UserError(f'no release {name!r} of torchvision{nearest(name, homes.TORCHVISION)} {_LIST}')
    versions = homes.VERSIONS[: len(homes.TORCHVISION[name])]
    if version not in ('', *versions):
        raise UserError(f'torchvision:{name} has no version {version!r}; it has {" and ".join(versions)}')
    number = versions.index(version) if version else 0
    file, start = homes.torchvision_file(name, number), homes.TORCHVISION[name][number]
    address, path = f'{homes.TORCHVISION_ADDRESS}/{file}', _torch_cache() / file
    if path.exists():
        say(f'{source}: {path}, {_bytes(path.stat().st_size, source)}, is in the cache')
    else:
        _download(source, address, path, start, say)
    digest = files.sha256(path)
    if not digest.startswith(start):
        raise UserError(f'{path} has the SHA-256 {digest[:8]}..., not {start}...: delete it and run this again')
    pixels = center('fb', 'fb', short_side=(232, 232), center_rounds='even') if homes.is_later(name, number) else {}
    origin = {'address': address, 'revision': versions[number], 'sha256': digest}
    arch = arch or homes.networks('torchvision')[name]
    return Fetched(path, arch, 'torchvision', pixels, origin, 'BSD-3-Clause')


def _torch_cache():
    """Return the folder where torchvision itself puts its files."""
    cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    home = os.environ.get('TORCH_HOME') or Path(cache, 'torch')
    return Path(paths.expanded(str(home)), 'hub', 'checkpoints')


def _download(source, address, path, start, say):
    """Fetch a file whose SHA-256 begins with `start`; continue where an earlier attempt broke off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.partial')
    advice = f'run this again, or put the file at {path}'
    done = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(address, headers={'Range': f'bytes={done}-'} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:
            done = done if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
            length = response.headers['Content-Length'] or ''
            total = done + int(length) if length.isdecimal() else None
            say(f'fetching {address}, {_bytes(total, source)}{f", from byte {done:,} on" * bool(done)}')
            with progress.bar(path.name, total) as advance, open(partial, 'ab' if done else 'wb') as file:
                advance(done)
                while (block := response.read(_BLOCK)) and file.tell() <= files.LARGEST:
                    file.write(block)
                    advance(len(block))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.unlink(missing_ok=True)
        raise UserError(f'{source} was not fetched: {address} answers {first_line(error)}: {advice}') from None
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        reason = first_line(getattr(error, 'reason', error))
        raise UserError(f'{source} was not fetched, {address} cannot be reached ({reason}): {advice}') from None
    size = partial.stat().st_size
    if size < total:
        raise UserError(f'{source}: {address} broke off after {size:,} of {total:,} bytes: {advice}')
    if not (digest := files.sha256(partial)).startswith(start):
        partial.unlink()
        raise UserError(f'{source}: what {address} sent has the SHA-256 {digest[:8]}..., not {start}...: {advice}')
    os.replace(partial, path)
