"""What users import and type: client, wallet, `mbi` command, local network, benchmark.

The package talks HTTP to nodes and starts them as processes. It imports `ledger` and `consensus`
for their types and checks, never the storage, the network or the node.
"""
