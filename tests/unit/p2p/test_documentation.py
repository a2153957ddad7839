"""docs/network.md states the messages, limits and prices that the code has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from p2p import errors, frames, messages
from p2p.config import Limits
from p2p.messages import Message
from p2p.queues import QUEUE_BOUNDS

TEXT = (Path(__file__).parents[3] / "docs" / "network.md").read_text()
OWN: list[type] = [kind for kind in get_args(Message) if kind.__module__ == "p2p.messages"]


@pytest.mark.parametrize("kind", OWN, ids=lambda k: k.__name__)
def test_every_message_is_described_with_its_tag_and_fields_in_order(kind: type) -> None:
    struct = msgspec.inspect.type_info(kind)
    assert isinstance(struct, msgspec.inspect.StructType)
    row = re.search(rf"^\| {struct.tag} \| {kind.__name__} \| (.*) \|$", TEXT, re.MULTILINE)
    assert row is not None
    described = [part.split()[0] for part in re.split(r", (?=[a-z_]+(?: |$|,))", row.group(1))]
    assert described == [field.name for field in struct.fields]


@pytest.mark.parametrize("kind", [k for k in vars(errors).values() if isinstance(k, type)])
def test_every_fault_with_a_price_is_in_the_table(kind: type) -> None:
    if not issubclass(kind, errors.ChannelError) or "code" not in vars(kind) or not kind.points:
        return
    row = re.search(rf"^\|.*`{kind.code}`.*\| (\d+) \|", TEXT, re.MULTILINE)
    assert row is not None
    assert int(row.group(1)) == kind.points


@pytest.mark.parametrize(
    "number",
    [
        frames.FRAME_BYTES_MAX,
        frames.HELLO_BYTES_MAX,
        messages.BLOCK_WIRE_BYTES_MAX,
        int(Limits().messages_per_s),
        *(bound.frames_max for bound in QUEUE_BOUNDS.values()),
    ],
)
def test_limits_are_stated(number: int) -> None:
    assert f"{number:,}" in TEXT or str(number) in TEXT
