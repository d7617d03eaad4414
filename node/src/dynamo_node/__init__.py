"""The shell: one process around one `dynamo_core.node.Node`.

Inside: RocksDB, sockets, HTTP, clocks, metrics, settings. Decides nothing that the simulator
should see: an `if` about replicas, versions or quorums belongs in `dynamo_core`.
"""
