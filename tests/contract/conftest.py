"""The implementations that each contract is tested over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.storage.disks import LevelDBDisk, MemoryDisk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.storage.disks import Disk


@pytest.fixture(params=["memory", "leveldb"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    """A place for one key-value store."""
    return MemoryDisk() if request.param == "memory" else LevelDBDisk(tmp_path / "data")
