"""Pictures of results, by matplotlib: a sweep's curve, and an image beside its original.

`sheets` is the paper, `curves` draws sweeps. Of images, `looks` says what is read for a picture,
`originals` from where, `panels` and `clouds` draw the parts, and `compared` lays them out. Nothing
here touches matplotlib's global state, and nothing but this package loads it.
"""
