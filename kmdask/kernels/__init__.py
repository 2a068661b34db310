"""The numba kernels and nothing else: loops over pixels and colours that run without the GIL.

Each kernel takes and returns plain arrays, touches no global state and checks nothing: whoever
calls it has validated the arguments.
Results as large as a block are allocated by NumPy outside and filled: NumPy asks for huge pages,
without which paging them in takes longer than filling them.

All are compiled on first use and cached on disk, so that only the first run on a machine waits for
the compiler.
"""
