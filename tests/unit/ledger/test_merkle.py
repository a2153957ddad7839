"""The dense tree and the history: one shape, one root, paths that fit one place only."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.crypto import sha256
from ledger.errors import InvariantViolation, ProofError
from ledger.history import History, history_leaf, history_path
from ledger.merkle import (
    NODE_TAG,
    ROOT_TAG,
    DenseTree,
    dense_path,
    dense_root,
    root_digest,
    root_from_path,
)
from ledger.types import Digest, Height

SIZES = [1, 2, 15, 16, 17, 31, 32, 33, 255, 256, 257, 272, 4096, 4097]


def leaves_of(count: int) -> list[Digest]:
    return [sha256(b"leaf %d" % number) for number in range(count)]


def plain_root(leaves: list[Digest]) -> bytes:
    """Return the root by the definition, without any cleverness."""
    level: list[bytes] = list(leaves)
    while len(level) > 1:
        level = [
            sha256(NODE_TAG + b"".join(level[start : start + 16]))
            for start in range(0, len(level), 16)
        ]
    top = level[0] if level else bytes(32)
    return sha256(ROOT_TAG + len(leaves).to_bytes(8, "big") + top)


def run_update(tree: DenseTree, changes: dict[int, Digest], count: int) -> Digest:
    steps = tree.update_steps(sorted(changes.items()), count)
    root: Digest | None = None
    while root is None:
        try:
            next(steps)
        except StopIteration as done:
            root = done.value
    assert tree.root != root or not changes
    tree.apply_update()
    assert tree.root == root
    return root


@pytest.mark.parametrize("count", [0, *SIZES])
def test_the_root_follows_the_definition(count: int) -> None:
    assert dense_root(leaves_of(count)) == plain_root(leaves_of(count))


@pytest.mark.parametrize("count", SIZES)
def test_a_path_leads_to_the_root_from_its_own_place_only(count: int) -> None:
    """C9's kind: a right digest with a wrong index must not pass."""
    leaves = leaves_of(count)
    root = dense_root(leaves)
    for index in {0, count // 2, count - 1}:
        path = dense_path(leaves, index)
        assert root_from_path(leaves[index], index, count, path) == root
        for wrong_index, wrong_count in (
            (index + 1, count),
            (index, count + 1),
            (index, count * 16),
        ):
            try:
                other = root_from_path(leaves[index], wrong_index, wrong_count, path)
            except ProofError:
                continue
            assert other != root


def test_misshapen_paths_are_refused() -> None:
    leaves = leaves_of(20)
    path = dense_path(leaves, 3)
    for wrong in (
        path[:-1],
        (*path, b""),
        (path[0][:-1], path[1]),
        (path[0] + bytes(32), path[1]),
        (),
    ):
        with pytest.raises(ProofError):
            root_from_path(leaves[3], 3, 20, wrong)
    for index, count in ((-1, 20), (20, 20), (0, 0), (0, 2**64)):
        with pytest.raises(ProofError):
            root_from_path(leaves[3], index, count, path)


def test_a_node_cannot_pass_as_a_leaf() -> None:
    leaves = leaves_of(17)
    shorter = dense_path(leaves, 16)[1:]
    with pytest.raises(ProofError):
        root_from_path(sha256(NODE_TAG + leaves[16]), 1, 17, shorter)
    assert root_from_path(sha256(NODE_TAG + leaves[16]), 1, 2, shorter) != dense_root(leaves)


@given(data=st.data())
def test_batched_updates_equal_a_tree_built_anew(data: st.DataObject) -> None:
    tree = DenseTree()
    leaves: list[Digest] = []
    for _ in range(data.draw(st.integers(1, 5))):
        grown = len(leaves) + data.draw(st.sampled_from([0, 1, 2, 15, 16, 17, 300]))
        changes = {index: sha256(b"new %d" % index) for index in range(len(leaves), grown)}
        if leaves:
            some = data.draw(st.sets(st.integers(0, len(leaves) - 1), max_size=5))
            changes |= {index: sha256(leaves[index]) for index in some}
        leaves += [Digest(bytes(32))] * (grown - len(leaves))
        for index, digest in changes.items():
            leaves[index] = digest
        if changes:
            assert run_update(tree, changes, grown) == plain_root(leaves)
    if leaves:
        index = data.draw(st.integers(0, len(leaves) - 1))
        assert tree.path(index) == dense_path(leaves, index)


def test_nothing_is_visible_before_the_update_is_applied() -> None:
    leaves = leaves_of(300)
    tree = DenseTree()
    run_update(tree, dict(enumerate(leaves)), 300)
    root, path = tree.root, tree.path(7)
    for _ in tree.update_steps([(7, sha256(b"x")), (300, sha256(b"y"))], 301):
        pass
    assert (tree.root, tree.path(7), tree.count) == (root, path, 300)


def grow(count: int) -> tuple[History, dict[bytes, bytes], list[Digest]]:
    history = History()
    pages: dict[bytes, bytes] = {}
    roots = []
    for leaf in leaves_of(count):
        history, writes = history.append(leaf)
        pages.update(writes)
        roots.append(history.root)
    return history, pages, roots


def test_the_history_is_the_dense_tree_over_its_leaves() -> None:
    _, _, roots = grow(600)
    leaves = leaves_of(600)
    for count in (1, 2, 15, 16, 17, 255, 256, 257, 258, 511, 512, 513, 600):
        assert roots[count - 1] == plain_root(leaves[:count])
    assert History().root == root_digest(0, bytes(32))


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 255, 256, 257, 300])
def test_the_edge_is_found_again_in_stored_pages(count: int) -> None:
    history, pages, _ = grow(count)
    loaded = History.load(count, pages.get)
    assert loaded.root == history.root
    leaf = sha256(b"next")
    assert loaded.append(leaf)[0].root == history.append(leaf)[0].root


def test_missing_or_shortened_pages_stop_the_start() -> None:
    _, pages, _ = grow(40)
    for key in sorted(pages):
        if key[-1] in (0, 1) and key[0] == 0:
            continue  # full pages left of the edge are read only for proofs
        for damaged in (None, pages[key][:-32]):
            broken = {**pages, key: damaged}
            with pytest.raises(InvariantViolation, match="history_pages"):
                History.load(40, broken.get)


def test_old_blocks_are_proved_under_any_later_root() -> None:
    """Also under roots older than the stored pages: the right edge is computed again."""
    _, pages, roots = grow(600)
    leaves = leaves_of(600)
    choice = random.Random(1)
    counts = [1, 2, 16, 17, 256, 257, 272, 273, 599, 600]
    for count in counts + [choice.randrange(1, 600) for _ in range(40)]:
        for index in {0, count - 1, choice.randrange(count)}:
            path = history_path(pages.get, count, Height(index))
            assert root_from_path(leaves[index], index, count, path) == roots[count - 1]
    with pytest.raises(ProofError):
        history_path(pages.get, 5, Height(5))


def test_a_history_leaf_binds_all_three_digests() -> None:
    one, two, three = leaves_of(3)
    assert len({history_leaf(one, two, three), history_leaf(two, one, three)}) == 2
