"""The query kernels: posting lists, accumulation, bounds, and the k best. Compiled by Numba."""
