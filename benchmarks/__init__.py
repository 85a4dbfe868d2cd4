"""Measurements that docs/benchmarks.md quotes: `python -m benchmarks NAME [--option value]`."""
