"""`python -m thresher`: the command line, where the `thresher` script is not on the path."""

from thresher.cli import main

if __name__ == "__main__":
    main()
