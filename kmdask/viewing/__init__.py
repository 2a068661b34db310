"""A page in the browser: a compressed image and its original in step, down to the pixel.

`page` makes the files of the page, `ground` what it says of places, `original` the tiles of the
source; `server` hands files out on this machine, `served` does so while tiles are being made, and
`show` is the door. What runs in the browser is in ``static/``, with BokehJS out of Bokeh's own
package; ``tiles.js`` is all that knows how Bokeh draws tiles.
"""
