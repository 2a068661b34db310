"""Zarr stores of bundles, in which all chunks are there or an error says which is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zarr.abc.store import Store
from zarr.storage import WrapperStore

from kmdask import places
from kmdask.errors import BundleError

if TYPE_CHECKING:
    from typing import Self

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from kmdask.places import Place

METADATA = (".z", "zarr.json")
"""What names of metadata begin with; zarr asks for some that need not be there."""


class WholeStore(WrapperStore[Store]):
    """A store in which a chunk that is not there is an error, and no fill value.

    No request is added: zarr itself asks for each chunk, and is told that there is none. Its own
    option for this, ``array.read_missing_chunks``, came after the oldest zarr that kmdask takes.

    Parameters
    ----------
    store : zarr.abc.store.Store
        What is read.
    bundle : str
        What to call the bundle in messages.
    part : str
        What of the bundle the store holds, as ``"image.zarr"``.
    """

    def __init__(self, store: Store, bundle: str, part: str) -> None:
        super().__init__(store)
        self.bundle, self.part = bundle, part

    def _with_store(self, store: Store) -> Self:
        """Wrap another store of the same content, as zarr does to read alone."""
        return type(self)(store, self.bundle, self.part)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read an object; raise a `BundleError` if it is a chunk that is not there."""
        return self._checked(key, await self._store.get(key, prototype, byte_range))

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Do what `get` does, for the codec pipeline of newer zarr that does not await."""
        store: Any = self._store
        if not hasattr(store, "get_sync"):
            raise TypeError(f"{store} cannot be read from without waiting")
        found = store.get_sync(key, prototype=prototype, byte_range=byte_range)
        return self._checked(key, found)

    def _checked(self, key: str, found: Buffer | None) -> Buffer | None:
        if found is None and not key.rpartition("/")[2].startswith(METADATA):
            raise BundleError(
                f"{self.bundle!r} is damaged: {self.part}/{key} is missing; bring that file back "
                "from a copy, or compress the image again (kmdask verify finds all that is wrong)"
            )
        return found


def whole_store(bundle: Place, part: str) -> WholeStore:
    """Return the store of a part of a bundle, to read from."""
    return WholeStore(places.zarr_store(bundle / part), str(bundle), part)
