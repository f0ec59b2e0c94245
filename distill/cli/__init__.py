"""The command `distill`: `main` lists its commands, each in a module of its own.

Imports everything below, but a command's module loads only click and light values at its top, so
that help is instant; its callback imports the module that does the work, with the reason beside
it. Parses, calls and prints; decides nothing that a test would want to reach without a command
line. A new command is a module here and a line in `main`.
"""
