"""`bench diff`: two configurations, or two files that hold some, side by side.

`sides` reads each side, `pairs` finds what belongs together and what differs, purely; `again`
predicts the two of one pair today, for their ops and timelines; `diff_text` and `two_timelines`
show. May import any command but `compare`'s gate and `schema`. Decides nothing: a difference is no
failure.
"""
