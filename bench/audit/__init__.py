"""`bench audit`: each figure of the write-up, held against what is predicted and was measured.

`rules` answers one kind of claim each and decides purely; `audit` asks the predictor and prints.
`measured` finds recorded peaks in evidence files. The claims themselves are
`bench.predict.claims`. May import `evidence` for its files, and `predict`.
Judges nothing without a number.
"""
