"""An object store on loopback: moto's S3 server, which counts requests and fails when told to.

It runs in a process of its own (``python object_store.py`` prints its port), as rasterio holds the
interpreter's lock while GDAL waits for some of its answers.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

CONTROL = "/_control"

ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    "<Error><Code>InternalError</Code><Message>it went wrong inside</Message></Error>"
)


@dataclass
class Watched:
    """A WSGI application with an account of its requests, and rules by which some fail.

    A rule is a dict: ``method`` and ``has`` (a part of the path) say which requests it is about,
    ``skip`` how many of them pass first and ``times`` how many fail then. They fail with
    ``status``, or have their body cut to ``cut`` bytes.
    """

    app: object
    log: list = field(default_factory=list)
    rules: list = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"].startswith(CONTROL):
            return self._control(environ, start_response)
        query = environ["QUERY_STRING"]
        entry = {
            "method": environ["REQUEST_METHOD"],
            "path": environ["PATH_INFO"] + (f"?{query}" if query else ""),
            "range": environ.get("HTTP_RANGE", ""),
            "key": environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")[0],
            "status": 0,
            "bytes": 0,
        }
        with self.lock:
            self.log.append(entry)
            rule = next((rule for rule in self.rules if self._meant(rule, entry)), {})
        if "status" in rule:
            entry["status"] = rule["status"]
            text = b"" if entry["method"] == "HEAD" else ERROR.encode()
            headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))]
            start_response(f"{rule['status']} Failed", headers)
            return [text]

        def noting(status, headers, exc_info=None):
            sizes = [int(value) for name, value in headers if name.lower() == "content-length"]
            entry["status"], entry["bytes"] = int(status.split()[0]), sum(sizes)
            return start_response(status, headers, exc_info)

        body = self.app(environ, noting)
        return [b"".join(body)[: rule["cut"]]] if rule else body

    def _meant(self, rule, entry):
        if rule["times"] == 0 or rule["method"] != entry["method"]:
            return False
        if rule["has"] not in entry["path"]:
            return False
        if rule["skip"]:
            rule["skip"] -= 1
            return False
        rule["times"] -= 1
        return True

    def _control(self, environ, start_response):
        answer = b"[]"
        with self.lock:
            if environ["REQUEST_METHOD"] == "PUT":
                length = int(environ["CONTENT_LENGTH"])
                self.rules = json.loads(environ["wsgi.input"].read(length))
            else:
                answer = json.dumps(self.log).encode()
            self.log = []
        start_response("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]


def main():
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_, **__):
            pass

    watched = Watched(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, watched, threaded=True, request_handler=Quiet)
    print(server.server_port, flush=True)  # noqa: T201  told to whoever started it
    # Whoever started it closes its input when they are done, or when they die.
    threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
    server.serve_forever()


@dataclass
class ObjectStore:
    """The server, seen from the tests."""

    endpoint: str

    def log(self):
        """Return the requests since this was last asked."""
        with urllib.request.urlopen(f"{self.endpoint}{CONTROL}") as answer:  # noqa: S310  loopback
            return json.load(answer)

    def fail(self, *rules):
        """Set the rules, in place of those before; forget the requests up to now."""
        filled = [{"method": "GET", "has": "", "skip": 0, "times": -1} | rule for rule in rules]
        request = urllib.request.Request(  # noqa: S310
            f"{self.endpoint}{CONTROL}", data=json.dumps(filled).encode(), method="PUT"
        )
        urllib.request.urlopen(request).close()  # noqa: S310


@contextlib.contextmanager
def running():
    """Run one."""
    command = [sys.executable, str(Path(__file__).absolute())]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield ObjectStore(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.stdin.close()
            process.wait(timeout=30)


if __name__ == "__main__":
    main()
