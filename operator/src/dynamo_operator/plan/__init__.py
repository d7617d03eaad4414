"""What to do next with one ring: pure, the first row that matches acts.

`table` has the state table and its order; each other file has the rows of one subject. No row
asks the API server or a node: all that it knows is one snapshot. The theorems of the plan are
tested in tests/dynamo_operator. May import: `snapshot`, `actions`, `children`, `spec` and below.
"""
