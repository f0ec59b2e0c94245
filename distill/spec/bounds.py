"""Bounds of numbers that a person may give, by what they mean, for recipes and command lines.

Far beyond what anyone trains with, so that they stop slips and nothing else, and so small that no
product of them runs over. No torch, no pydantic.
"""

MOST_IMAGES = 65_536
"""Images at a time."""

MOST_UPDATE_IMAGES = 2**20
"""Images an update, and micro-batches an update."""

MOST_PIXELS = 8_192
"""Width of an image: a million patches of 8 pixels."""

MOST_CLASSES = 1_000_000
"""The largest labelled sets have some ten thousand."""

MOST_EPOCHS = 100_000
"""At a second an epoch more than a day."""

MOST_TEACHER_VIEWS = 1_000
"""Views of an image whose teacher's logits are kept: ten times as many as most train epochs."""

MOST_LEARNING_RATE = 100.0
"""The largest published, for SGD with very large batches, are below 50."""

MOST_WEIGHT_DECAY = 100.0
MOST_CLIP_NORM = 1e6

MOST_LABEL_SMOOTHING = 0.9
"""Beyond it the other classes of ten count as much as the right one."""

MOST_PATCH_DROP_RATE = 0.95
"""Of the 196 patches of 224 px nine are left."""

MOST_MIXING = 100.0
"""Of a beta distribution that is symmetric: mixed half and half, nearly always."""

MOST_BLOCKS = 512
"""Blocks of a model, and the distance of two that are checkpointed."""

MOST_WIDTH = 65_536
MOST_HEADS = 1_024

MOST_LETTERS = 200
"""Of a model's or a recipe's name, which files are named for."""

MOST_PATH_LETTERS = 4_096
"""Of a path, on Linux."""

MOST_WORKERS = 256
"""Threads that read images."""

LEAST_VRAM_GIB = 0.1
"""Less does not even hold what CUDA takes for itself."""
MOST_VRAM_GIB = 1_024
MOST_TOLERANCE_PERCENT = 1_000.0

MOST_PROCESSES = 100_000
"""That train together."""
