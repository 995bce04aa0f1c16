"""`python -m hardmil`: the command line, where `hardmil` is not on the path."""

from hardmil.cli import main

if __name__ == "__main__":
    main()
