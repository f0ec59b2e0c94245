"""A training step of the user's own code: traced update by update, then replayed.

    step_prediction   its program through the allocator; the values of the answer
    step_trace        the updates on fake tensors, until one is as the one before it
    releasing_walk    a backward that leaves nothing behind in the graph
    step_ledger       a ledger that knows ops which the step of `distill` does not use
    card_calls        calls that a card would answer another way than a fake tensor does
    attention_choice  the attention kernel that PyTorch would take on a card
    known_ops         ops whose memory is known: all others are refused by name
    step_refusals     why a step can't be predicted, in a sentence

Imports go down this list, and from here to the rooms below: `trace`, `kernels`, `replay`.
Refuses what it can't see; knows no candidate, no recipe and no card by name.
"""
