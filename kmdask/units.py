"""Numbers, and what they are of, as people read them."""

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


def several(number: int, what: str) -> str:
    """A number of things, of which there may be one.

    Examples
    --------
    >>> several(1, "band"), several(3, "band")
    ('1 band', '3 bands')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def times_smaller(ratio: float, digits: int = 1, sign: str = "x") -> str:
    """How many times smaller something is, or larger.

    Examples
    --------
    >>> times_smaller(15.68), times_smaller(0.8, digits=2)
    ('15.7 x smaller', '1.25 x larger')
    """
    smaller = round(ratio, digits) >= 1
    times = ratio if smaller else 1 / ratio
    return f"{times:.{digits}f} {sign} {'smaller' if smaller else 'larger'}"
