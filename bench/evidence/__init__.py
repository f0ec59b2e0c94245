"""`bench evidence`: everything that needs a GPU, in one bounded run, and the tables of it.

`plan` says what is looked at; `record`, `verification` and `throughput` are its parts, each with
children of their own; `recording` is the file of allocator histories, `allocator_check` repeats
one in the model of the allocator, `comparison` and `request_gaps` hold it against today's
prediction, `timing_fit` holds predicted times against measured ones, `summary` prints.
`imitation` and `rehearsal` walk the same way without a card and say so. May import every other
command but `audit`, which reads its files.
"""
