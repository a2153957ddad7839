"""Getting what is missing here, and giving others what they miss.

Certificates are asked for by range of views, blocks by hash, and long stretches of finalised chain
by height. Every request is made once and forgotten on the next retry, so that what got lost is
asked for again. Only certificates move anything: no claim of a peer about its height or view is
believed. Normative text: ``docs/protocol-consensus.md``, Catch-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consensus.blocks import BlockTree, Gap
from consensus.certificates import CertificateStore, signers
from consensus.effects import Broadcast, FetchBlock, FetchChain, Send
from consensus.inputs import PeerId
from consensus.outbox import Outbox
from consensus.peers import PeerBook
from consensus.types import SKIPS_MAX, Certificate, CertificateMessage, GetCertificates, Status
from ledger.types import Digest, Epoch, Era, Height, View

FETCH_BY_HASH_MAX: Final = 16
"""Longer gaps, in heights or views, are filled by ranges of heights instead of one hash at a
time."""

WANTED_MAX: Final = 256
"""Blocks that were asked for are accepted however late they come, but so many at most."""

AHEAD_MAX: Final = 16
"""Peers whose claim to be in a later epoch is remembered: one honest one is enough."""

AHEAD_RETRIES: Final = 8
"""Retries for which such a claim is believed. It costs a liar nothing to repeat it, and this node
one small request to the liar each time."""


class CatchUp:
    """Requests under way, and the answers to requests of others."""

    __slots__ = (
        "_ahead",
        "_asked_blocks",
        "_asked_chain",
        "_asked_views",
        "_certificates",
        "_epoch",
        "_era",
        "_outbox",
        "_peers",
        "_tree",
        "_wanted",
    )

    def __init__(
        self,
        era: Era,
        epoch: Epoch,
        certificates: CertificateStore,
        tree: BlockTree,
        peers: PeerBook,
        outbox: Outbox,
    ) -> None:
        self._era: Final = era
        self._epoch: Final = epoch
        self._certificates: Final = certificates
        self._tree: Final = tree
        self._peers: Final = peers
        self._outbox: Final = outbox
        self._asked_views: tuple[View, View] | None = None
        self._asked_chain: tuple[Height, View] | None = None
        self._asked_blocks: set[Digest] = set()
        self._wanted: dict[Digest, None] = {}
        self._ahead: dict[PeerId, int] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether a request is under way."""
        return bool(
            self._asked_blocks
            or self._asked_views is not None
            or self._asked_chain is not None
            or self._ahead
        )

    def accept(self, block_hash: Digest) -> bool:
        """Tell whether a block that has come was asked for, even if a while ago."""
        self._asked_blocks.discard(block_hash)
        if block_hash not in self._wanted:
            return False
        del self._wanted[block_hash]
        return True

    def forget_requests(self) -> None:
        """Allow every request to be made again."""
        self._asked_views = None
        self._asked_chain = None
        self._asked_blocks.clear()

    def fetch(self, gap: Gap, certificate: Certificate | None, source: PeerId | None) -> None:
        """Ask for a missing block: by hash if the way to it seems short, else by heights.

        ``certificate`` is of the block or a descendant, ``source`` has offered a descendant.
        """
        target = self._certificates.finalization
        if target is not None and target.view > self._tree.final_view:
            if gap.height is None:
                distance = target.view - self._tree.final_view
            else:
                distance = gap.height - self._tree.final.height
            if distance > FETCH_BY_HASH_MAX:
                self._fetch_chain(target)
                return
        if gap.block_hash in self._asked_blocks:
            return
        self._asked_blocks.add(gap.block_hash)
        self._wanted[gap.block_hash] = None
        if len(self._wanted) > WANTED_MAX:
            del self._wanted[next(iter(self._wanted))]
        peers = self._peers.of_members(0 if certificate is None else signers(certificate))
        if source is not None:
            peers = (source, *(peer for peer in peers if peer != source))
        self._outbox.emit(FetchBlock(gap.block_hash, peers))

    def _fetch_chain(self, target: Certificate) -> None:
        first = Height(self._tree.final.height + 1)
        if self._asked_chain is not None and self._asked_chain[0] == first:
            return
        self._asked_chain = (first, target.view)
        peers = self._peers.of_members(signers(target))
        self._outbox.emit(FetchChain(first, target, peers))

    def follow(self, peer: PeerId) -> None:
        """EP7: remember that a peer claims to be ahead; that is believed for some retries only."""
        if peer in self._ahead or len(self._ahead) < AHEAD_MAX:
            self._ahead[peer] = AHEAD_RETRIES

    def lose(self, peer: PeerId) -> None:
        """Forget the claim of a peer whose channel has closed."""
        self._ahead.pop(peer, None)

    def chase(self) -> None:
        """EP7: ask peers that claim to be ahead for what follows, unless proven work is under way.

        Called on every retry.
        """
        peers = tuple(self._ahead)
        self._ahead = {peer: left - 1 for peer, left in self._ahead.items() if left > 1}
        if peers and self._certificates.finalized_view <= self._tree.final_view:
            self._outbox.emit(FetchChain(Height(self._tree.final.height + 1), None, peers))

    def request_certificates(self, views: Sequence[View], source: PeerId | None) -> None:
        """Ask ``source``, or everyone, for the certificates of these views, one page at a time."""
        first = views[0]
        last = View(min(views[-1], first + SKIPS_MAX - 1))
        if self._asked_views == (first, last):
            return
        message = GetCertificates(self._epoch, first, last)
        if self._asked_views is None and source is not None:
            self._outbox.emit(Send(source, message))
        else:
            self._outbox.emit(Broadcast(message))
        self._asked_views = (first, last)

    def settled(self) -> None:
        """Record that no certificates are missing at present."""
        self._asked_views = None

    def finalized(self) -> None:
        """Record that the finalised block has advanced: what is still missing is asked for anew."""
        self._asked_blocks.clear()
        if self._certificates.finalized_view <= self._tree.final_view:
            self._asked_chain = None

    def finalization(self) -> CertificateMessage | None:
        """Return the highest finalization, which shows a peer that it is behind."""
        held = self._certificates.finalization
        return None if held is None else CertificateMessage((held,))

    def page(self, first: View, last: View) -> CertificateMessage | None:
        """Return the certificates held for these views, and the finalization if it is above."""
        found: list[Certificate] = []
        finalization = self._certificates.finalization
        if finalization is not None and first < finalization.view:
            found.append(finalization)
        for view in range(first, min(last, first + SKIPS_MAX - 1) + 1):
            found += (c for c in self._certificates.at(View(view)) if c is not finalization)
            if len(found) >= SKIPS_MAX:
                break
        return CertificateMessage(tuple(found[:SKIPS_MAX])) if found else None

    def status(self, nonce: bytes, view: View, executed: Height) -> Status:
        """Return where this node stands, with the proofs."""
        before = self._certificates.at(View(view - 1))
        return Status(
            nonce,
            self._era,
            self._epoch,
            view,
            executed,
            before[0] if before else None,
            self._certificates.notarization,
            self._certificates.finalization,
        )

    def help_for(self, status: Status, view: View) -> CertificateMessage | None:
        """Return the certificates that a node with this status lacks to be where this node is."""
        found: list[Certificate] = []
        finalization = self._certificates.finalization
        theirs = status.finalization
        if finalization is not None and (theirs is None or theirs.view < finalization.view):
            found.append(finalization)
        notarization = self._certificates.notarization
        theirs = status.notarization
        if notarization is not None and (theirs is None or theirs.view < notarization.view):
            found.append(notarization)
        if status.view < view:
            found += self._certificates.at(View(view - 1))
        unique = {(c.view, c.kind): c for c in found}
        return CertificateMessage(tuple(unique.values())) if unique else None
