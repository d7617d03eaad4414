"""How likely a read sees the last write: predicted from samples of delays, measured by canaries.

Decided here: what the samples of all members predict for each R and W, how nodes write and read
canary keys, what the report says to administrators (Bailis et al., VLDB 2012; docs/staleness.md).
Rules: S-RW-1 (where R + W > N and nothing fails, each canary is fresh), C17 (older nodes are not
asked). Imports: every room of the core below `parts`, of `admin` only the words of refusals; only
`parts` imports this one.
"""
