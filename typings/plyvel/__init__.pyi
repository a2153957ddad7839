"""Types of plyvel 1.5, which ships none."""

from collections.abc import Iterator as IteratorOf
from types import TracebackType
from typing import Generic, Literal, Self, TypeVar, overload

__version__: str

_Default = TypeVar("_Default")
_Item = TypeVar("_Item")

class Error(Exception): ...
class IOError(Error, OSError): ...
class CorruptionError(Error): ...
class IteratorInvalidError(Error): ...

class _Closing:
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

class WriteBatch(_Closing):
    def put(self, key: bytes, value: bytes) -> None: ...
    def delete(self, key: bytes) -> None: ...
    def append(self, source: WriteBatch) -> None: ...
    def clear(self) -> None: ...
    def approximate_size(self) -> int: ...
    def write(self) -> None: ...

class Iterator(_Closing, Generic[_Item]):
    def __iter__(self) -> Self: ...
    def __next__(self) -> _Item: ...
    def prev(self) -> _Item: ...
    def seek(self, target: bytes) -> None: ...
    def seek_to_start(self) -> None: ...
    def seek_to_stop(self) -> None: ...
    def close(self) -> None: ...

class _Reader:
    @overload
    def get(
        self,
        key: bytes,
        default: None = None,
        *,
        verify_checksums: bool = False,
        fill_cache: bool = True,
    ) -> bytes | None: ...
    @overload
    def get(
        self,
        key: bytes,
        default: _Default,
        *,
        verify_checksums: bool = False,
        fill_cache: bool = True,
    ) -> bytes | _Default: ...
    @overload
    def iterator(
        self,
        *,
        reverse: bool = False,
        start: bytes | None = None,
        stop: bytes | None = None,
        include_start: bool = True,
        include_stop: bool = False,
        prefix: bytes | None = None,
        include_key: Literal[True] = True,
        include_value: Literal[True] = True,
        verify_checksums: bool = False,
        fill_cache: bool = True,
    ) -> Iterator[tuple[bytes, bytes]]: ...
    @overload
    def iterator(
        self,
        *,
        reverse: bool = False,
        start: bytes | None = None,
        stop: bytes | None = None,
        include_start: bool = True,
        include_stop: bool = False,
        prefix: bytes | None = None,
        include_key: Literal[True] = True,
        include_value: Literal[False],
        verify_checksums: bool = False,
        fill_cache: bool = True,
    ) -> Iterator[bytes]: ...
    @overload
    def iterator(
        self,
        *,
        reverse: bool = False,
        start: bytes | None = None,
        stop: bytes | None = None,
        include_start: bool = True,
        include_stop: bool = False,
        prefix: bytes | None = None,
        include_key: Literal[False],
        include_value: Literal[True] = True,
        verify_checksums: bool = False,
        fill_cache: bool = True,
    ) -> Iterator[bytes]: ...
    def __iter__(self) -> IteratorOf[tuple[bytes, bytes]]: ...

class Snapshot(_Reader, _Closing):
    def close(self) -> None: ...

class DB(_Reader, _Closing):
    def __init__(
        self,
        name: str | bytes,
        create_if_missing: bool = False,
        *,
        error_if_exists: bool = False,
        paranoid_checks: bool | None = None,
        write_buffer_size: int | None = None,
        max_open_files: int | None = None,
        lru_cache_size: int | None = None,
        block_size: int | None = None,
        block_restart_interval: int | None = None,
        max_file_size: int | None = None,
        compression: Literal["snappy"] | None = "snappy",
        bloom_filter_bits: int = 0,
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def put(self, key: bytes, value: bytes, *, sync: bool = False) -> None: ...
    def delete(self, key: bytes, *, sync: bool = False) -> None: ...
    def write_batch(self, *, transaction: bool = False, sync: bool = False) -> WriteBatch: ...
    def snapshot(self) -> Snapshot: ...
    def compact_range(self, *, start: bytes | None = None, stop: bytes | None = None) -> None: ...
    def approximate_size(self, start: bytes, stop: bytes) -> int: ...
    def get_property(self, name: bytes) -> bytes | None: ...
    def close(self) -> None: ...

def repair_db(name: str | bytes, *, paranoid_checks: bool | None = None) -> None: ...
def destroy_db(name: str | bytes) -> None: ...
