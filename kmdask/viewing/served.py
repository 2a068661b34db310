"""A page that is served: its server, and the tiles of the original that are made meanwhile."""

from __future__ import annotations

import tempfile
import threading
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from kmdask.viewing.page import COMPRESSED, ORIGINAL, page_files
from kmdask.viewing.server import Server, Site
from kmdask.writing import publish, store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kmdask.connecting.client import Connection
    from kmdask.image import CompressedImage
    from kmdask.progress import Progress
    from kmdask.viewing.original import Original


class View:
    """A page that is served on this machine until it is closed. Made by `kmdask.view`.

    Parameters
    ----------
    image : CompressedImage
    original : Original or None
    reason : str
        Why there is none, where that is not by wish.
    port : int
    client, progress
        See `kmdask.view`.
    """

    def __init__(
        self,
        image: CompressedImage,
        original: Original | None,
        reason: str,
        *,
        port: int,
        client: Connection,
        progress: Progress,
    ) -> None:
        state = {"state": "none" if original is None else "making", "reason": reason}
        self._followed = _Followed(progress, state)
        self._folder = Path(tempfile.mkdtemp(prefix="kmdask-view-"))
        # At the latest when Python ends: nobody may ever close the page.
        self._clear = weakref.finalize(self, publish.remove, self._folder)
        site = Site(
            page_files(image, state),
            {COMPRESSED: image.path / store.TILES_FILES, ORIGINAL: self._folder / ORIGINAL},
            lambda: state,
        )
        self._failure: BaseException | None = None
        self._server = Server(site, port)
        self._maker: threading.Thread | None = None
        if original is not None:
            self._maker = threading.Thread(target=self._make, args=(original, client), daemon=True)
            self._maker.start()

    @property
    def url(self) -> str:
        """The address of the page, on the loopback address of this machine."""
        return self._server.url

    @property
    def original(self) -> Mapping[str, Any]:
        """``state`` of the original's tiles ("none", "making", "ready" or "failed"), and why."""
        return dict(self._followed.state)

    def wait(self) -> None:
        """Wait until the tiles of the original are there, if any are to be.

        Raises
        ------
        KmdaskError
            If they cannot be made. The page is served all the same.
        """
        if self._maker is not None:
            self._maker.join()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Stop serving, give up what is still being made, and remove the original's tiles."""
        self._followed.closed.set()
        self._server.close()
        if self._maker is not None:
            self._maker.join()
        self._clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<View {self.url}>"

    def _repr_html_(self) -> str:
        return f'<iframe src="{self.url}" style="width:100%;height:600px;border:0"></iframe>'

    def _make(self, original: Original, client: Connection) -> None:
        state = self._followed.state
        try:
            original.write(self._folder / ORIGINAL, self._folder, client, self._followed)
        except _ClosedError:
            pass
        except BaseException as error:  # noqa: BLE001  raised by wait
            self._failure = error
            state |= {"state": "failed", "reason": str(error)}
        else:
            state["state"] = "ready"


class _ClosedError(Exception):
    """Nobody looks any more."""


@dataclass
class _Followed:
    """Tells another progress, keeps how far it is, and ends the run when the page is closed."""

    told: Progress
    state: dict[str, Any]
    closed: threading.Event = field(default_factory=threading.Event)

    def connected(self, dashboard: str | None) -> None:
        self._go_on()
        self.told.connected(dashboard)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._go_on()
        with self.told.stage(name):
            yield

    def advance(self, done: int, total: int) -> None:
        self._go_on()
        self.state["share"] = done / total if total else 0.0
        self.told.advance(done, total)

    def note(self, text: str) -> None:
        self.told.note(text)

    def _go_on(self) -> None:
        if self.closed.is_set():
            raise _ClosedError
