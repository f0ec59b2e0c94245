"""The harness: predicts and measures the memory of `distill`'s step, and writes the profile.

Reading order: `grid` and `choose` (pure decisions), `predict` (no GPU), `measure` (child
processes), `probe` (joins them), `cli`. Imports `distill`; `distill` never imports this.
"""
