"""`python -m pati`: the command line."""

from pati.cli import main

main()
