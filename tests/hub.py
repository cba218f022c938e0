"""A server on loopback that speaks what the hub's client asks of the hub's protocol, and breaks where it is told."""

import contextlib
import dataclasses
import hashlib
import http.server
import json
import re
import threading

COMMIT = 'c0ffee' * 6 + 'abcd'
_RESOLVE = re.compile(r'/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)')
_TREE = re.compile(r'/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/?]+)')


@dataclasses.dataclass
class Repo:
    """A repository of models: {path: bytes}. Weight files are at another address, as LFS files are."""

    files: dict
    is_gated: bool = False
    moved_to: str = ''


class Hub(http.server.ThreadingHTTPServer):
    """The server.

    Attributes:
      repos: {OWNER/NAME: `Repo`}.
      plain: {path: bytes} of other addresses.
      asked: (method, path, range) of every request.
      breaks: how many more answers with a weight file end after half of it.
      sends: bytes that are sent in place of a weight file, of the same length, or None.
      status: a code that every request is answered with, or None.
      has_ranges: whether parts of a file can be asked for.
      headers: {name: value, or None to leave it out} of every answer, in place of the right ones.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.repos, self.plain, self.asked, self.breaks = {}, {}, [], 0
        self.sends, self.status, self.has_ranges, self.headers = None, None, True, {}
        self.address = f'http://127.0.0.1:{self.server_port}'
        self.storage = f'http://localhost:{self.server_port}'  # another host than the hub's, as in reality

    def fetched(self):
        """The paths whose contents were asked for, without what the client tells of itself."""
        return [path for method, path, _ in self.asked if method == 'GET' and not path.startswith('/api/agent')]

    def handle_error(self, request, client_address):
        """A client that goes away is none of its business."""


@contextlib.contextmanager
def running():
    """A `Hub` that answers until the end of the block."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = 'HTTP/1.1'

    def log_message(self, *arguments):
        """Say nothing."""

    def do_HEAD(self):
        """Answer without contents."""
        self.answer()

    def do_GET(self):
        """Answer with contents."""
        self.answer()

    def answer(self):
        """Answer a request."""
        hub = self.server
        hub.asked.append((self.command, self.path, self.headers['Range']))
        path = self.path.partition('?')[0]
        if hub.status:
            return self.send(hub.status)
        if match := _TREE.fullmatch(path):
            repo = hub.repos[match['repo']]
            entries = [{'type': 'file', 'path': p, 'size': len(c), 'oid': '0' * 40} for p, c in repo.files.items()]
            return self.send(200, json.dumps(entries).encode())
        if path in hub.plain:
            return self.contents(hub.plain[path], {})
        match = _RESOLVE.fullmatch(path)
        repo = hub.repos.get(match['repo']) if match else None
        if repo is None:
            return self.send(401, error='RepoNotFound')
        if repo.moved_to:
            there = f'/{repo.moved_to}/resolve/{match["revision"]}/{match["file"]}'
            return self.send(307, headers={'Location': there})
        if repo.is_gated:
            return self.send(403, error='GatedRepo')
        if match['revision'] not in ('main', COMMIT):
            return self.send(404, error='RevisionNotFound')
        commit = {'X-Repo-Commit': COMMIT}
        if match['file'] not in repo.files:
            return self.send(404, headers=commit, error='EntryNotFound')
        contents = repo.files[match['file']]
        if not match['file'].endswith(('.safetensors', '.bin')):
            return self.contents(contents, commit | {'ETag': f'"{hashlib.sha1(contents).hexdigest()}"'})
        digest = hashlib.sha256(contents).hexdigest()
        hub.plain[f'/cdn/{digest}'] = contents
        linked = {'X-Linked-Etag': f'"{digest}"', 'X-Linked-Size': str(len(contents))}
        return self.send(302, headers=commit | linked | {'Location': f'{hub.storage}/cdn/{digest}'})

    def contents(self, contents, headers):
        """Send a file, or the end of it."""
        hub, start = self.server, 0
        if hub.sends is not None and self.path.startswith(('/cdn/', '/models/')):
            contents = hub.sends
        if (wanted := self.headers['Range']) and hub.has_ranges:
            start = int(re.fullmatch(r'bytes=(\d+)-', wanted)[1])
            headers = headers | {'Content-Range': f'bytes {start}-{len(contents) - 1}/{len(contents)}'}
        rest = contents[start:]
        if hub.breaks and self.command == 'GET' and self.path.startswith(('/cdn/', '/models/')):
            hub.breaks -= 1
            self.send(206 if start else 200, rest, headers, stop=len(rest) // 2)
        else:
            self.send(206 if start else 200, rest, headers)

    def send(self, code, contents=b'', headers=None, error=None, stop=None):
        """Send an answer, or with `stop` that many bytes of it before the connection ends."""
        right = {'Content-Length': str(len(contents)), 'X-Error-Code': error} | (headers or {})
        self.send_response(code)
        for name, value in (right | self.server.headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(contents[:stop])
        if stop is not None:
            self.close_connection = True
