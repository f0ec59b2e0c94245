"""`bench report`: a run, its profile and the evidence as one page, and its tables as files.

`parts` holds what a report is made of. `from_run`, `from_profile` and `from_evidence` gather it,
each by the functions that the other commands print with, so that no number is made twice. `owned`
stacks the bytes of a step. `page` writes. Measures nothing and trains nothing.
"""
