"""The contestants that are Python libraries, each of which is run as a process of its own.

What they have in common, reading and writing, is as quick as can be had: rasterio, with a thread
for each core. They hold the whole image.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

BATCH = 1 << 16
ROWS = 1 << 20


def decode(source: Path, *_unused: object) -> None:
    """Read every pixel once, in the chunks of a compression, and drop it."""
    from kmdask.chunks import SHARD
    from kmdask.reading.sources import find_source

    opened = find_source(str(source))
    height, width = opened.shape
    windows = [
        (slice(y, min(y + SHARD, height)), slice(x, min(x + SHARD, width)))
        for y in range(0, height, SHARD)
        for x in range(0, width, SHARD)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda window: opened.read(*window).nbytes, windows):
            pass


def pillow(source: Path, out: Path, k: int, *, kmeans: int = 0) -> None:
    """Quantise with Pillow."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    with Image.open(source) as image:
        image.quantize(k, kmeans=kmeans, dither=Image.Dither.NONE).save(out)


def pillow_kmeans(source: Path, out: Path, k: int) -> None:
    """Quantise with Pillow, with steps of k-means until fewer than two pixels change."""
    pillow(source, out, k, kmeans=1)


def kmeans(source: Path, out: Path, k: int) -> None:
    """Fit scikit-learn's KMeans to all pixels."""
    from sklearn.cluster import KMeans

    rows, shape = read(source)
    model = KMeans(k, n_init=1, random_state=0).fit(rows)
    write(out, model.labels_.reshape(shape), model.cluster_centers_)


def minibatch(source: Path, out: Path, k: int) -> None:
    """Fit scikit-learn's MiniBatchKMeans in one pass, then predict all pixels."""
    from sklearn.cluster import MiniBatchKMeans

    rows, shape = read(source)
    batch = min(BATCH, -(-len(rows) // 16))  # it fails if one batch is all there is
    model = MiniBatchKMeans(
        k, n_init=1, max_iter=1, random_state=0, batch_size=batch, compute_labels=False
    ).fit(rows)
    write(out, model.predict(rows).reshape(shape), model.cluster_centers_)


def faiss(source: Path, out: Path, k: int) -> None:
    """Fit and search with faiss."""
    import faiss

    rows, shape = read(source)
    model = faiss.Kmeans(rows.shape[1], k, seed=1, niter=25)
    model.train(rows)
    labels = model.index.search(rows, 1)[1]
    write(out, labels.reshape(shape), np.asarray(model.centroids))


def dask_ml(source: Path, out: Path, k: int) -> None:
    """Fit dask-ml's KMeans to all pixels."""
    import dask.array as da
    from dask_ml.cluster import KMeans

    rows, shape = read(source)
    model = KMeans(k, random_state=0).fit(da.from_array(rows, chunks=(ROWS, -1)))
    write(out, model.labels_.compute().reshape(shape), model.cluster_centers_)


PEERS: dict[str, Callable[[Path, Path, int], None]] = {
    "decode": decode,
    "pillow": pillow,
    "pillow-kmeans": pillow_kmeans,
    "kmeans": kmeans,
    "minibatch": minibatch,
    "faiss": faiss,
    "dask-ml": dask_ml,
}


def read(source: Path) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
    """All pixels as rows of float32, and the shape of the image."""
    import rasterio

    with rasterio.open(source, num_threads="all_cpus") as dataset:
        pixels = dataset.read([1, 2, 3])
    rows = np.ascontiguousarray(pixels.reshape(3, -1).T, np.float32)
    return rows, pixels.shape[1:]


def write(path: Path, indices: npt.NDArray[Any], palette: npt.NDArray[Any]) -> None:
    """Write a palette GeoTIFF."""
    import rasterio

    height, width = indices.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=1,
        dtype="uint8",
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
        num_threads="all_cpus",
        photometric="palette",
    ) as dataset:
        dataset.write(indices.astype(np.uint8), 1)
        colors = np.rint(palette).astype(int).tolist()
        dataset.write_colormap(1, {i: tuple(color) for i, color in enumerate(colors)})


def main() -> None:
    """Run one of them from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("-k", type=int, required=True)
    args = parser.parse_args()
    PEERS[args.peer](args.source, args.out, args.k)


if __name__ == "__main__":
    main()
