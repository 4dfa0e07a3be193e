"""How long the library's methods take, beside their floor and beside other ways to the same values.

One command, `python -m benchmarks`, runs everything in one process, the ways of a row in turn, one after the other in
every repeat; a peer that cannot be installed beside the course runs in an environment of its own (`--peers`). Before
any clock is started, all ways must give equal values: a ratio of two different results is not printed.
"""
