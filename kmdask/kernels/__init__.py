"""The numba kernels and nothing else: loops over pixels and colours that run without the GIL.

Each kernel takes and returns plain arrays, allocates its own result, touches no global state and
checks nothing: whoever calls it has validated the arguments. All are compiled on first use and
cached on disk, so that only the first run on a machine waits for the compiler.
"""
