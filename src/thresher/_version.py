"""The version of thresher, read by the build backend and by `thresher.__version__`."""

__version__ = "0.1.0"
