"""How validators agree on one block per height: engine, certificates, epochs and light client.

The package is pure. The engine is a function of its inputs and returns effects; whoever runs it
owns the timers, the disk and the network. It imports `ledger` only, which has votes
and validator sets (ADR 0014).
"""
