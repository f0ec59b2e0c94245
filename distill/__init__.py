"""The distillation chain: ViT-Base teaches ViT-Small, ViT-Small teaches ViT-Tiny.

A ladder of folders, in which each imports only folders below it:

    cli      the command `distill`: its options, and a module a command
    report   tables, curves and exports of a run that is there
    run      the chain: stages in order, each taught by the one before
    train    one stage: its loop, checkpoints, scores and log
    step     the only forward, backward and update
    data     images, from a file to a batch            device   NVML, and who else is there
    spec     recipe, profile, plan: values, no torch
    base     errors, units, files, signals

Reading order: `step/step.py`, `train/loop.py`, `run/stage.py`, `run/chain.py`. Nothing here knows
`bench`; the two packages meet in one file, the profile (`spec/profile.py`).
"""
