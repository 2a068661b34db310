"""Which Dask cluster, and whether it can do a run.

`client` connects, `clusters` says to what; `checks` and `probes` are what every worker is asked
before a run, `doctor` and `machines` the same and more, told in plain lines.
"""
