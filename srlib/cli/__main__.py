"""Run the command line as `python -m srlib.cli`."""

from srlib.cli import main

if __name__ == "__main__":
    main()
