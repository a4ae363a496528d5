"""The stages of dvc.yaml, a module each.

`model` is the network and its training, `core` what else the stages share.
"""

import atexit
import gc

# A stage imports hundreds of thousands of objects that stay. To look for garbage among them, again
# and again and once more at the end, takes a sixth of the time that it needs to start and end.
gc.set_threshold(100_000)
atexit.register(gc.freeze)
