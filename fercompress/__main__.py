"""`python -m fercompress` is the command line."""

from fercompress.cli import main

if __name__ == "__main__":
    main()
