"""Enumerated Twins scenarios (Bano et al., OPODIS 2021) on the engine of production, without I/O.

One validator runs twice with one key. In every round the enumeration chooses who hears whom and who
leads. Engines are deterministic, so what scenarios have in common is run once.
``docs/verification.md`` says what is enumerated and checked.
"""
