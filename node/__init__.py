"""One running node: it joins the ledger, consensus, storage and network into a process with an HTTP API.

This is the thin shell around the pure packages. It owns every task, queue, clock and configuration
value, and it is the only package that may import all others.
"""
