"""The sizes of scenes; apart from ``scene.py``, whose imports are large."""

SIZES = {
    "1mp": (1024, 1024),
    "16mp": (4096, 4096),
    "100mp": (10240, 10240),
    "250mp": (16384, 16384),
    "1gp": (32768, 32768),
    "2gp": (65536, 32768),
    "4gp": (65536, 65536),
}
