"""The experiments behind the figures in README and docs: `python -m eval NAME`, from the root of a checkout.

Each module is one experiment. It keeps what it has computed in a work directory, so an interrupted run resumes, and
writes `eval/results/NAME.json` with its table and plot. `python -m eval` lists the experiments; `python -m eval tables`
copies figures from the result files into README and docs.
"""
