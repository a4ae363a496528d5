"""Tables, figures and verdicts from what evaluation left."""

import os

# matplotlib obeys these two while it is imported: a notebook's backend, a personal style. It is
# imported nowhere else, and the figures are nobody's own.
os.environ.pop("MPLBACKEND", None)
os.environ["MATPLOTLIBRC"] = os.devnull
