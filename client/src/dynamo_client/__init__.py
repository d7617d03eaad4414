"""Client library and command line of dynamo-ring."""
