"""Running `mbi drill` on a network of the tests, as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Final

from mbi.errors import ExitCode
from tests.cluster.waiting import PATIENCE
from tests.docker.compose import IMAGE, ROOT, ComposeNetwork, run

DRILL_S: Final = 300.0
"""Building the helpers' image, waiting for the network, one drill."""


def command(network: ComposeNetwork, *words: str) -> subprocess.Popen[str]:
    """Start ``mbi drill run`` on the network."""
    return subprocess.Popen(
        [sys.executable, "-m", "mbi", "drill", "run", "--project", network.name, *words],
        cwd=ROOT,
        env={**os.environ, "MBI_HTTP_PORT": network.port, "MBI_IMAGE": IMAGE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def drill(network: ComposeNetwork, name: str) -> Any:
    """Run one drill to its end and return its part of the report: it was safe and recovered."""
    process = command(network, name, "--json")
    out, err = process.communicate(timeout=DRILL_S)
    # On a machine on which programs wait, recovery takes as much longer as they wait; safe is safe.
    accepted = (ExitCode.OK, ExitCode.FAILED) if PATIENCE > 1 else (ExitCode.OK,)
    assert process.returncode in accepted, err
    (result,) = json.loads(out)["drills"]
    assert result["verdict"] == "SAFE", result["unsafe"]
    measured, limits = result["seconds"], result["limits"]
    for what, limit in (("new_block", limits["block_s"]), ("all_agree", limits["agree_s"])):
        assert measured[what] is not None, result["late"]
        assert measured[what] <= limit * PATIENCE, result["late"]
    return result


def helpers(network: ComposeNetwork) -> list[str]:
    """Return every container, volume and network that a drill has made for this network."""
    label = f"label=mbi.drill={network.name}"
    listings = (("ps", "-aq"), ("volume", "ls", "-q"), ("network", "ls", "-q"))
    return [one for words in listings for one in run("docker", *words, "--filter", label).split()]
