"""The chain: stages in order, the claim on the run's folder, the check of the machine.

Imports `train` and all below it. What can be refused is refused before the folder is touched.
Asks `bench` only as a child process (`advice`, `machine_check`), never by import. Parses no
command line and draws no table.
"""
