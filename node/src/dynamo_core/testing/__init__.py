"""The proof machinery: one checker for every kind of test, and a deterministic simulator.

`checker` judges a `history` against the claims (docs: testing). `world` runs the very `Node` that
the process runs, on simulated `network`, `disk` and clocks, through a plan of `workload` and
`faults` that is data made from one seed; `runner` is its command line, `shrink` makes a failing
plan small, `ladder` draws it. Nothing of the product imports this package.
"""
