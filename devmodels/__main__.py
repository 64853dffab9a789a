"""`python -m devmodels`: the same as the `devmodels` command."""

from devmodels.cli.main import main

if __name__ == "__main__":
    main()
