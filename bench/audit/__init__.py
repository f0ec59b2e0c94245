"""`bench audit`: each figure of the original write-up, held against what is predicted for it.

`rules` answers one kind of claim each and decides purely; `audit` asks the predictor and prints.
The claims themselves are `bench.predict.claims`. May import `predict` and what stands below it.
Judges nothing without a number.
"""
