"""Compress images too large for one machine into palette images, by k-means on Dask.

>>> import numpy as np
>>> import kmdask
>>> from PIL import Image
>>> Image.fromarray(np.tile(np.uint8([[0, 9], [9, 200]]), (50, 50))).save("picture.png")
>>> result = kmdask.compress("picture.png", k=3)
>>> result.to_dask().compute().shape
(100, 100, 1)

The stages are public too, for arrays that are in Dask already: `count_colors`, `fit_palette`,
`encode`, `decode`, and `open_raster` before them.
"""

import lazy_loader

# Importing Dask, GDAL and dask-ml takes seconds: each name loads its module when it is first used.
# Which name is where stands in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.2.0"
