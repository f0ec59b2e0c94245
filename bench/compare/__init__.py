"""`bench compare`: memory regression against committed predictions, without a GPU.

`baseline` is the file, `cells` predicts today's, `compare` finds the differences purely, `gate`
prints them and decides the exit code. May import `probe` for its grid. Accepts no numbers of other
versions or of another card.
"""
