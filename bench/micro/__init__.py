"""Micro benchmarks: the time of single functions on the request path, by `timeit`. Run `python -m bench.micro`."""
