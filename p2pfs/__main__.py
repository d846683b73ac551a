"""`python -m p2pfs`: the same as the `p2pfs` command."""

from p2pfs.cli import main

if __name__ == "__main__":
    main()
