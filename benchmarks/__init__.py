"""Speed and quality, measured side by side with what else a user could pick.

`python -m benchmarks` runs all and writes docs/benchmarks.md and benchmarks/results.json;
`python -m benchmarks indexing --quick` runs one, smaller. Each side of a comparison is a process
of its own, and sides take turns, so that neither one's allocator nor a shared machine's noise
decides.
"""
