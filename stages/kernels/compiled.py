"""The former place of `gather_pixels`."""

from stages.kernels.pixels import gather_pixels

__all__ = ["gather_pixels"]
