"""Files for a browser on this machine: pages out of memory, tiles as they lie in their folders."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from kmdask import storage
from kmdask.connecting.clusters import LOOPBACK
from kmdask.errors import OutputError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kmdask.places import Place

STATE = "state.json"

TILE = re.compile(r"([a-z]+)/(\d{1,2}/\d{1,9}_\d{1,9}\.(?:png|jpg))")
"""What the address of a tile looks like: its folder, and its name there."""

TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
}

HTTP_PORT = 80

KEPT = "private, max-age=86400, immutable"
"""What browsers are told of tiles: their addresses say which run they are of."""


@dataclass(frozen=True)
class Site:
    """What is served."""

    files: Mapping[str, bytes]
    """Files in memory, by name; that of "" is ``index.html``."""

    folders: Mapping[str, Place]
    """Folders of tiles, by name."""

    state: Callable[[], Any] = field(default=dict)
    """What ``state.json`` says at the moment."""

    def find(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none of that name."""
        if name == STATE:
            return json.dumps(self.state()).encode()
        if name in self.files:
            return self.files[name]
        tile = TILE.fullmatch(name)
        if tile is None or tile[1] not in self.folders:
            return None
        try:
            return storage.read_file(self.folders[tile[1]] / tile[2])
        except OSError:
            return None


class Server:
    """Serves a site on the loopback address, each request in a thread, until it is closed.

    Parameters
    ----------
    site : Site
    port : int, default 0
        By default any that is free.

    Raises
    ------
    ParameterError
        If that is no port.
    OutputError
        If it is taken.

    Examples
    --------
    >>> from urllib.request import urlopen
    >>> server = Server(Site({"index.html": b"<p>here</p>"}, folders={}))
    >>> urlopen(server.url).read()
    b'<p>here</p>'
    >>> server.close()
    """

    def __init__(self, site: Site, port: int = 0) -> None:
        if port not in range(1 << 16):
            raise ParameterError(f"port is a number from 0, for any, to 65535; got {port!r}")
        try:
            self._http = _Http((LOOPBACK, port), site)
        except OSError as error:
            raise OutputError(
                f"port {port} cannot be served on: {error.strerror}; give another, or 0 for any "
                "that is free"
            ) from error
        self.url = f"http://{LOOPBACK}:{self._http.server_port}/"
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop; the address is free again afterwards, and no browser is answered any more."""
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        # Browsers keep connections; left alone, a thread each would go on to answer.
        for connection in list(self._http.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], site: Site) -> None:
        super().__init__(address, _Handler)
        self.site = site
        self.names = host_names(self.server_port)
        self.connections: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Browsers drop what they need no more, whenever they like.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def host_names(port: int) -> set[str]:
    """Names by which a browser of this machine asks for a port.

    By any other name it is a page from elsewhere that asks, whose name was bent to here.

    Examples
    --------
    >>> sorted(host_names(8000))
    ['127.0.0.1:8000', 'localhost:8000']
    """
    # Browsers leave out the port that http has anyway.
    ending = "" if port == HTTP_PORT else f":{port}"
    return {f"{host}{ending}" for host in (LOOPBACK, "localhost")}


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"
    # Headers and content in one packet, sent at once.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.headers.get("Host", "") not in self.server.names:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        name = self.path.partition("?")[0].removeprefix("/") or "index.html"
        content = self.server.site.find(name)
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES[name.rpartition(".")[2]])
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", KEPT if "/" in name else "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  http.server's name
        """Say nothing: a page asks for hundreds of tiles."""
