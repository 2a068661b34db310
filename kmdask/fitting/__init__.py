"""From pixels to the centres of a palette.

`survey` takes a first `look` and decides how colours are taken: `colors` counts the different
ones, `cells` gathers those of many or deep bands; `space` is where they are compared. `fit` starts
from the best of many runs (`seeding`) and goes on with `kmeans`, the estimator, or with `grey`, the
exact optimum; `refine` takes further steps over all pixels. `lloyd` is k-means in memory, as the
workers run it, `moments` what its passes find out, and `plus_plus` where it starts.
"""
