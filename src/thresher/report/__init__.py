"""Reports: one self-contained HTML page of runs, of an experiment, or of an index.

    from thresher.report.runs import runs_report

    html = runs_report({"full": full, "pruned": pruned}, qrels, "nDCG@10", margin=0.02)

A page has no script and asks for nothing outside of itself: its style is in it, and a Content-Security-Policy forbids
the rest. Texts are data and are escaped.
"""
