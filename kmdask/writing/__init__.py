"""From lazy indices to files.

`outputs` puts everything in one graph: the bundle's zarr (`store`, with `geozarr` for its place on
the map), Deep Zoom tiles (`levels`, `deepzoom`, `png`), the palette GeoTIFF (`cog`) and the
`preview`. `publish` lets it appear whole or not at all. `decompress` and `geotiff` write full
colours again.
"""
