"""Local networks: nodes as child processes on loopback, made for trying out, testing and measuring.

``topology`` decides names, chambers and ports; ``identities`` the keys; ``genesis`` the common
start; ``certificates`` the channel certificates; ``homes`` writes all of it to disk; ``supervisor``
runs nodes as children and ``detached`` runs them in the background. A network on disk is described
by the ``network.json`` in its directory (``layout``). Nothing here is meant for production keys:
they lie unencrypted in the directory, which only its owner may read.
"""
