"""What is in a bundle, for tests that compare two."""


def contents(bundle, but=("report.json",)):
    """The bytes of every file; by default of all but the report, which has timings."""
    files = (path for path in bundle.rglob("*") if path.is_file() and path.name not in but)
    return {str(path.relative_to(bundle)): path.read_bytes() for path in files}
