"""The harness: predicts and measures the memory of `distill`'s step, and writes the profile.

One folder a command (`probe`, `predict`, `compare`, `verify`, `evidence`, `audit`, `doctor`), each
with the parsing in `command.py`; below them `card`, which card is meant; then the two engines:
`simulate`, memory without a GPU, and `measure`, one trial in one process. `trials` holds what both
give. Imports go down this list and on to `distill`, which never imports this.
"""
