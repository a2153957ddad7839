"""Authenticated channels between nodes: framing, handshake, gossip and block fetching.

The protocol part takes bytes and returns events without a socket; the transport part owns the
connections. It imports `ledger` and `consensus`, never the storage or the node.
"""
