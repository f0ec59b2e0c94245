"""What both engines give: a trial as a value, the journal that keeps it, the digests it holds for.

Imports `distill` alone. Loads no torch; runs nothing and judges nothing.
"""
