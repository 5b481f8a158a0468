"""`python -m cardoon`: the same as the `cardoon` command."""

from cardoon.cli.main import main

if __name__ == "__main__":
    main()
