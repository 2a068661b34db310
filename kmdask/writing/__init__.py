"""From lazy indices to files.

`outputs` puts everything in one graph: the bundle's zarr (`store`, with `geozarr` for its place on
the map), Deep Zoom tiles (`levels`, `deepzoom`, `png`), the palette GeoTIFF (`cog`) and the
`preview`. `publish` and `staging` let it appear whole or not at all; with what `earlier` and
`receipts` keep, a run goes on from where another was cut off. `decompress` and `geotiff` write full
colours again.
"""
