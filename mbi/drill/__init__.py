"""Drills: faults inflicted on a running compose network, and a judgement of how it bore them.

``plan`` says which drills there are and what each must hold, ``faults`` inflicts and undoes,
``load`` and ``watch`` send and observe meanwhile, ``evidence`` asks all nodes afterwards, ``judge``
decides. What a drill knows of the nodes it has from their HTTP interface. ``docs/drills.md``.
"""
