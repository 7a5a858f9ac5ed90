"""`python -m imgret`."""

from imgret.cli import main

main()
