"""The machine: the driver's answers, other programs on the card, power, a profile's fingerprint.

Imports `spec` and `base`. Asks NVML and Linux, never torch, so it makes no CUDA context. A value
that is not told is `None` with a reason, never 0. Ends no process and changes no setting.
"""
