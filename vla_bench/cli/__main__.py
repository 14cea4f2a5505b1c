"""`python -m vla_bench.cli`."""

from vla_bench.cli import main

if __name__ == "__main__":
    main()
