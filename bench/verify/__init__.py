"""`bench verify`: a profile proven on the card that is here, in both directions.

`verify` runs the proofs of each choice in child processes (`proof_child`), `proofs` judges them
purely. May import `card` and the engines. Calls nothing verified that did not also fail a few MiB
below.
"""
