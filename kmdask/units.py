"""Numbers as people read them."""

from __future__ import annotations


def size_told(size: float) -> str:
    """Bytes to three digits, in thousands.

    Examples
    --------
    >>> size_told(1_234_567)
    '1.23 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
