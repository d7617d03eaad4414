"""The proof machinery: one checker for every kind of test, and a deterministic simulator.

`checker` judges a `history` against the claims (docs/rules.md). `world` runs the `Node` of the real
process on simulated `network`, `disk` and clocks, through a plan of `workload` and `faults` that
one seed makes; `runner` is its command line, `shrink` makes a failing plan small, `ladder` draws
it. No product code imports this package.
"""
