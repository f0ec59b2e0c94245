"""The distillation chain: ViT-Base teaches ViT-Small, ViT-Small teaches ViT-Tiny.

Reading order: `step` (the only forward, backward and update), `train` (one stage),
`chain` (the stages in order), `cli`. Nothing here knows about `bench`; the two packages
meet in one file, the profile (`distill.spec.profile`).
"""
