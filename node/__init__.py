"""One running node: ledger, consensus, storage and network joined into a process with an API.

This is the thin shell around the pure packages. It owns every task, queue, clock and configuration
value, and it is the only package that may import all others.
"""
