"""Types of what the tests use of PyYAML 6, which ships none."""

from collections.abc import Iterator
from typing import Any

def safe_load(stream: str | bytes) -> Any: ...
def safe_load_all(stream: str | bytes) -> Iterator[Any]: ...
