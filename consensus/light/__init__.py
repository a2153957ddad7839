"""Light verification: what is final, shown by signatures alone, from nothing but the genesis.

``client`` follows the changes of the validator set and judges headers, ``proofs`` checks files that
anyone can keep and hand on, ``errors`` names the step that failed. Nothing here executes
transactions or needs a node. Normative text: ``docs/proofs.md``.
"""

from consensus.light.client import LightClient, SetChange
from consensus.light.errors import LightError

__all__ = ["LightClient", "LightError", "SetChange"]
