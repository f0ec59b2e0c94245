"""Cards: which one a number is for, which one is here, and what is left on it for PyTorch.

`targets` knows cards by name (`cards.toml`), `detect` asks the one that is here in a child
(`card_child`), `budget` subtracts context, desktop and margin. May import `measure`. Touches no
CUDA in the process that asks.
"""
