from collections.abc import Callable
from typing import Any

import pytest

class LoadScopeScheduling:
    def __init__(self, config: pytest.Config, log: Callable[..., Any] | None = None) -> None: ...
    def _split_scope(self, nodeid: str) -> str: ...
