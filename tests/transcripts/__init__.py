"""Scenarios of the consensus engine as texts: what happens, and what the engine does about it."""
