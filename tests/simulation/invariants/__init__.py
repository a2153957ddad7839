"""What must hold in every run, checked from outside the engine, one small class per invariant.

The invariants see what honest nodes send, store, finalise and execute, and everything that
Byzantine keys sign. They share no logic with the engine: they count quorums and compare votes by
their own arithmetic (:mod:`tests.simulation.invariants.registry`).

    I1   one block hash per height over all nodes and epochs
    I2   every certificate is a true quorum; L1: one value per view; L2: no NULLIFY with FINALIZE
    I3   no honest validator signs a conflicting pair, over all its restarts
    I4   nothing is sent that depends on un-synced own votes, blocks or certificates
    I5   a FINALIZE vote has a notarization of its value
    I6   skipped views between parent and child have a nullification, the parent a notarization
    I7   equal state, history and receipts on all nodes; headers certify the true roots
    I8   the finalised height never falls, also over restarts
    I9   no evidence and no penalty against an honest node; evidence proves what it claims
    I10  memory, fetches and events stay bounded
    I11  an idle chain is silent
    I12  a light client accepts the finalised chain from genesis on, and nothing else
    V    an honest validator notarizes no block that breaks a rule
    V5   a header names the next set exactly where the schedule demands it
    ACK  a transaction reported final is in the chain of every node
    H    no node halts while the safety condition S holds
    LIVE after healing, every node of the core finalises a new transaction in bounded time

I10 for fetches is :class:`tests.simulation.fetch.TooManyWants`, for events
:class:`tests.simulation.timeline.EventStorm`; LIVE is asked in :mod:`tests.simulation.simulation`.
"""

from tests.simulation.invariants.checker import Checker
from tests.simulation.invariants.registry import Registry, Violation, are_conflicting

__all__ = ["Checker", "Registry", "Violation", "are_conflicting"]
