"""`python -m imgret`."""

from imgret.process import run_command

if __name__ == "__main__":
    run_command()
