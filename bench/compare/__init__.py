"""`bench compare`: memory regression against committed predictions, without a GPU.

`baseline` is the file, `cells` predicts today's, `compare` finds the differences purely,
`compare_text` and `compare_page` show them, `limits` holds a user's limits, `metric_files` has the
forms that other programs read, `gate` decides the exit code. May import `report` for its page and
`probe` for its grid. Accepts no predictions of other versions or of another card.
"""
