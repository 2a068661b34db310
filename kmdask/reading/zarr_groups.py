"""Which array of a zarr group is the image, and what the group tells about it."""

from __future__ import annotations

import lzma
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from kmdask.errors import SourceError, SourceNotFoundError
from kmdask.places import is_url, place, zarr_store
from kmdask.reading import cf
from kmdask.reading.remote import check_zarr
from kmdask.storage import reaching

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from kmdask.georef import Georef
    from kmdask.reading.layout import Described

OPENING_ERRORS = (AttributeError, LookupError, OSError, TypeError, ValueError)
"""What zarr raises on metadata that are not there, or are not what they should be."""

DECODING_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    zlib.error,
    lzma.LZMAError,
)
"""What zarr's codecs raise on damaged chunks; coordinates have such too."""

NAMED = 10
"""Arrays that an error lists."""


@dataclass(frozen=True)
class Found:
    """An array with what is known of it."""

    array: zarr.Array[Any]
    location: str
    told: Described
    georef: Georef


@dataclass(frozen=True)
class _Beside:
    """An array of the same group, as a variable of `kmdask.reading.cf`."""

    array: zarr.Array[Any]

    @property
    def attrs(self) -> Mapping[str, Any]:
        return dict(self.array.attrs)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def values(self) -> npt.NDArray[Any]:
        return np.asarray(self.array[...])


def find_array(path: str) -> Found:
    """Find the array at a path, which may end with ``::NAME`` to name an array of a group.

    A group of several resolutions, OME-Zarr or not, stands for its largest; any other for the only
    array of it that has rows and columns and is no coordinate.

    Raises
    ------
    SourceError
        If there is none, or more than one to choose from.
    """
    store, _, inner = path.partition("::")
    store = store.rstrip("/") if is_url(store) else store
    with warnings.catch_warnings():
        # Of data types that are not final yet, in arrays that are not looked at.
        warnings.simplefilter("ignore")
        try:
            with reaching(place(store)):
                node = _opened(path, store, inner)
                if isinstance(node, zarr.Group):
                    return _described(path, *_choose(path, store, inner, node))
                return _described(path, store, inner, node, None)
        except DECODING_ERRORS as error:
            if isinstance(error, SourceError):
                raise
            check_zarr(store)
            raise SourceError(f"{path!r} is damaged: {error}; write it again") from error


def _opened(path: str, store: str, inner: str) -> zarr.Array[Any] | zarr.Group:
    try:
        return zarr.open(zarr_store(place(store)), path=inner or None, mode="r")
    except OPENING_ERRORS as error:
        from kmdask.writing.store import is_bundle  # which reads zarr by this package

        if is_bundle(place(store)):
            msg = (
                f"{store!r} is a compressed image, not a source; `kmdask decompress` makes one of "
                f"it again (its indices are {store}/image.zarr::indices)"
            )
            raise SourceError(msg) from error
        check_zarr(store)
        if inner and (is_url(store) or Path(store).is_dir()):
            names = _names(store)
            if names:
                msg = f"there is no array {inner!r} in {store!r}; it has {names}"
                raise SourceNotFoundError(msg) from error
        msg = (
            f"{path!r} is a directory but no zarr array or group: {error}; give the path of the "
            "array itself, such as group.zarr/array or group.zarr::array"
        )
        raise SourceError(msg) from error


def _names(store: str) -> str:
    try:
        return _listed(zarr.open_group(zarr_store(place(store)), mode="r"))
    except OPENING_ERRORS:
        return ""


def _listed(group: zarr.Group) -> str:
    arrays = sorted(
        (name, node.shape)
        for name, node in group.members(max_depth=4)
        if isinstance(node, zarr.Array)
    )
    told = [f"{name!r} {shape}" for name, shape in arrays[:NAMED]]
    return ", ".join(told + ["..."] * (len(arrays) > NAMED)) or "no arrays"


def _choose(
    path: str, store: str, inner: str, group: zarr.Group
) -> tuple[str, str, zarr.Array[Any], tuple[str, ...] | None]:
    """Choose the array of a group: where it is, and its axes if the group names them."""
    scales = _multiscales(group)
    names, dims = _datasets(scales) if scales else ([], None)
    listed = [(name, group[name]) for name in names if name in group]
    nodes = listed if scales else list(group.arrays())
    arrays = {name: node for name, node in nodes if isinstance(node, zarr.Array)}
    largest = _largest(arrays) if scales else _only(arrays)
    if largest is None:
        msg = (
            f"{path!r} is a zarr group in which no array is the only image; name one of its arrays "
            f"as {store}::{'/'.join(filter(None, (inner, 'NAME')))}: {_listed(group)}"
        )
        raise SourceError(msg)
    return store, "/".join(filter(None, (inner, largest))), arrays[largest], dims


def _wide(shape: Sequence[int]) -> list[int]:
    """Axes of an array that may be an image; one pixel may be one too."""
    return list(shape) if len(shape) in {2, 3} else [size for size in shape if size > 1]


def _largest(arrays: Mapping[str, zarr.Array[Any]]) -> str | None:
    return max(arrays, key=lambda name: (arrays[name].size, name), default=None)


def _only(arrays: Mapping[str, zarr.Array[Any]]) -> str | None:
    """Name the only image among the arrays; of several numbered resolutions the largest."""
    wide = {name: node for name, node in arrays.items() if len(_wide(node.shape)) >= 2}
    named = " ".join(str(node.attrs.get("coordinates", "")) for node in wide.values()).split()
    images = {name: node for name, node in wide.items() if name not in named}
    if len(images) > 1 and not all(name.lstrip("s").isdigit() for name in images):
        return None
    return _largest(images)


def _multiscales(group: zarr.Group) -> list[Any]:
    ome = group.attrs.get("ome")
    scales = ome.get("multiscales") if isinstance(ome, dict) else group.attrs.get("multiscales")
    return scales if isinstance(scales, list) else []


def _datasets(scales: list[Any]) -> tuple[list[str], tuple[str, ...] | None]:
    first = scales[0]
    names = [str(dataset["path"]) for dataset in first["datasets"]]
    axes = first.get("axes")
    if not axes:
        return names, None
    return names, tuple(axis["name"] if isinstance(axis, dict) else str(axis) for axis in axes)


def _described(
    path: str, store: str, inner: str, array: zarr.Array[Any], dims: tuple[str, ...] | None
) -> Found:
    attrs = dict(array.attrs)
    written_by_xarray = "_ARRAY_DIMENSIONS" in attrs
    location = f"{store}/{inner}".rstrip("/") if is_url(store) else str(Path(store) / inner)
    folder, _, name = location.rpartition("/")
    group = _parent(folder)
    if dims is None:
        dims = _dims(array, attrs, group)
    beside = _beside(group, name)
    # xarray keeps its fill value in that of zarr, in version 2; elsewhere this one means nothing.
    fill = array.fill_value if written_by_xarray and array.metadata.zarr_format == 2 else None
    told = cf.describe(path, attrs, dims, fill)
    if not told.names and dims is not None:
        told = replace(told, names=_band_names(array.shape, dims, beside))
    return Found(array, location, told, cf.place(path, attrs, dims, beside))


def _dims(
    array: zarr.Array[Any], attrs: Mapping[str, Any], group: zarr.Group | None
) -> tuple[str, ...] | None:
    dims = getattr(array.metadata, "dimension_names", None) or attrs.get("_ARRAY_DIMENSIONS")
    scales = _multiscales(group) if group and not dims else []
    if scales:
        dims = _datasets(scales)[1]
    if isinstance(dims, list | tuple) and len(dims) == len(array.shape):
        return tuple(str(dim) for dim in dims) if any(dims) else None
    return None


def _parent(folder: str) -> zarr.Group | None:
    try:
        return zarr.open_group(zarr_store(place(folder)), mode="r")
    except OPENING_ERRORS:
        return None


def _beside(group: zarr.Group | None, name: str) -> dict[str, _Beside]:
    arrays = group.arrays() if group else ()
    return {other: _Beside(node) for other, node in arrays if other != name}


def _band_names(
    shape: tuple[int, ...], dims: tuple[str, ...], beside: Mapping[str, _Beside]
) -> tuple[str, ...]:
    """Names of the bands in their coordinate; plain numbers name nothing."""
    for size, dim in zip(shape, dims, strict=True):
        if dim.lower() in {"band", "channel", "c"} and dim in beside:
            variable = beside[dim]
            values = variable.values() if variable.shape == (size,) else np.empty(0)
            if values.dtype.kind in "UTO":
                return tuple(str(value) for value in values)
    return ()
