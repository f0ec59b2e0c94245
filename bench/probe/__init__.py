"""`bench probe`: the grid predicted, what is worth it measured, a profile chosen from both.

`probe_plan` is what was asked, as one value. `grid`, `search` and `choose` decide purely,
`predict_grid` and `measure_grid` do the work, `make_profile` chooses and has the choice verified,
`outputs` writes tables and pictures. May import `verify`, `card` and the engines. Never changes how
many images an update takes.
"""
