"""Values that say what is trained: recipe, profile, candidate, plan of a stage, pins, data sets.

Imports `base`. Loads no torch, no image and no device: all of it can be read and decided in a
fraction of a second. What a file may hold is checked here (pydantic), with the cure in the
message. A new data set's facts go into `catalog`, a new value of a recipe into `recipe`; a value
that changes memory also goes into `candidate`.
"""
