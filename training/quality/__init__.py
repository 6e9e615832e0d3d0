"""The quality estimators: training, coverage by a query log, and the choice of training pairs."""
