"""HTTP and JSON: Starlette and uvicorn with psutil, and httpx with a kept connection."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.peers.certificates import Certificates
from benchmarks.peers.jobs import Job
from benchmarks.peers.peer import HOST, KEPT_SECONDS, Ask, Peer
from benchmarks.peers.readings import Readings
from benchmarks.peers.serving import serve
from benchmarks.plan import BenchmarkError


class HttpJson(Peer):
    """A small service of one's own."""

    @contextlib.contextmanager
    def serve(self) -> Iterator[int]:
        """The service."""
        self._certificates = Certificates.make(self.rig.directory)
        command = [sys.executable, "-m", "benchmarks.peers.http_json", str(self.rig.directory)]
        with self.rig.serving(command) as port:
            yield port

    @contextlib.contextmanager
    def connect(self, port: int) -> Iterator[Ask]:
        """A client; it connects with its first question."""
        context = self._certificates.client_context()
        kept = httpx.Limits(keepalive_expiry=KEPT_SECONDS)
        where = f"https://{HOST}:{port}"
        with httpx.Client(base_url=where, verify=context, limits=kept) as client:

            def ask(job: Job) -> str:
                response = client.get(f"/{job}")
                if response.status_code != httpx.codes.OK:
                    raise BenchmarkError(f"the service answered {response.status_code}")
                return response.text

            yield ask


def application() -> Starlette:
    """What a page of Python makes of it."""
    readings = Readings()

    async def reading(request: Request) -> JSONResponse:
        return JSONResponse(readings.of(Job(request.url.path.removeprefix("/"))))

    return Starlette(routes=[Route(f"/{job}", reading) for job in Job])


if __name__ == "__main__":
    serve(application(), Certificates(Path(sys.argv[1])))
