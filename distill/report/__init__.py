"""A run that is there: tables, curves, attention, exported models, repeated tests and leftovers.

Imports `run` and all below it. Reads a run's folder and writes beside it; trains nothing. `tables`
and `figure` are shared with `bench`. A new column of the accuracy table goes into `tables`.
"""
