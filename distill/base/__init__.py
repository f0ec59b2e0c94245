"""Tools of both commands: errors with exit codes, whole files, locks, signals, children, console.

Imports nothing of this repository. Knows no model, no recipe and no device, and loads no torch.
A size becomes text in `units` alone, and a failure becomes an exit code in `errors` alone. A new
helper belongs here if both packages need it and it would read the same in another project.
"""
