"""One stage: its loop, checkpoints, scores, epoch log and progress; what is done when memory ends.

Imports `step`, `data`, `spec` and `base`. Knows one stage and its folder, not the chain: no
profile, no command line, no question to `bench`. Loses nothing that was finished: files are
written whole, and the newest checkpoint is always one that can be gone on from. A new column of
the epoch log goes into `run_folder`, a new score into `metrics`.
"""
