"""From a path to lazy pixels.

`sources` recognises what is at a path: a raster (`gdal*`), a zarr array or group (`zarr_*`), a
``.npy`` file; `arrays` takes those of Dask, NumPy and xarray. `raster` cuts it into chunks as large
as `plans` allows; `spool` copies first what cannot be read at random. `describe` says what there
is without reading it.
"""
