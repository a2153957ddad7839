"""The production consensus engine on virtual time, a hostile network and crashing disks.

One seed is one run, in one thread, with one random source: it expands to options (how many
validators, which faults, who is Byzantine), runs a network of engines through a phase of any
faults and a phase of healing, and checks the invariants listed in :mod:`tests.simulation.checkers`
at every event. Equal seeds give equal runs, event by event.

    python -m tests.simulation --seeds 0..2000 --jobs 2     many seeds, summary by kind of fault
    python -m tests.simulation --seed 41 --trace            replay one, printing every event

Where to look: ``options`` what a seed may be; ``simulation`` how a run goes; ``world`` who is in
it; ``process`` and ``node`` the driver of an engine; ``application`` and ``fetch`` what it drives;
``network``, ``disk`` and ``faults`` what goes wrong; ``byzantine``, ``puppets`` and ``forgery``
who does wrong; ``mutants`` defences removed on purpose, to see that the checkers notice. Not
simulated: the real ledger as application, damaged bytes on disk, changes of the validator set.
"""
