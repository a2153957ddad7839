"""Whole nodes on virtual time, a hostile network and crashing disks.

One seed is one run, in one thread, with one random source: it expands to options (how many
validators, which faults, who is Byzantine, whether the set changes), runs a network of nodes
through a phase of any faults and a phase of healing, and checks the invariants listed in
:mod:`tests.simulation.invariants` at every event. Equal seeds give equal runs, event by event.

    python -m tests.simulation --seeds 0..2000 --jobs 2     many seeds, summary by kind of fault
    python -m tests.simulation --seed 41 --trace            replay one, printing every event
    python -m tests.simulation --mutants --jobs 2           removed defences, and what finds each

Where to look: ``options`` what a seed may be; ``simulation`` how a run goes; ``world`` who is in
it, ``universe`` what there is before the first block; ``process`` and ``blocks`` the driver of a
node, ``ledger`` and ``fetch`` what it drives; ``workload`` and ``governance`` what people do;
``network``, ``disk`` and ``faults`` what goes wrong; ``byzantine``, ``puppets``, ``forgery`` and
``distortion`` who does wrong; ``stories`` runs told by hand; ``mutants`` defences removed on
purpose, to see that the checkers notice. What it is worth: ``docs/verification.md``.
"""
