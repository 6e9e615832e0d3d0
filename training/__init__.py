"""How the shipped weights are made, and what was compared on the way. Not part of the wheel.

    python -m training.quality.train      # the embedded quality estimator
    python -m training.context.train      # the context pruner
    python -m training.encode.train       # the sparse encoder

Run from the repository's root, with the extras `train`, `embedded` and `models` installed.
"""
