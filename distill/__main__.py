"""`python -m distill` is the `distill` command."""

from distill.cli.main import main

main()
