"""What a node keeps on disk, and how it survives a crash at any moment.

The package puts blocks, receipts, state and votes behind a small key-value port with two
implementations, LevelDB and memory. It imports `ledger` and `consensus`, never the network or the
node.
"""
