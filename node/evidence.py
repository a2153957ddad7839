"""What this node does about proof that a validator signed against itself.

It is kept on disk, passed on to every peer, and reported on chain by a node that has an account
for it. Whoever would report waits its turn by its place in the validator set, so that mostly one
transaction is sent; who finds the report on chain is silent. All of it survives restarts.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple

import structlog

from consensus.inputs import PeerId
from ledger.address import address_of
from ledger.crypto import SigningKey, verify
from ledger.errors import InvalidEvidence
from ledger.evidence import verify_evidence
from ledger.operations.governance import ReportEvidence
from ledger.receipt import ReceiptStatus
from ledger.records import evidence_key
from ledger.state import State
from ledger.transaction import decode_transaction, sign_transaction
from ledger.transition import simulate
from ledger.types import Digest, Nonce, TimeMs
from ledger.validators import Validator
from ledger.votes import Vote, check_vote
from node.clock import now_ms
from node.epochs import Epochs
from p2p.messages import EvidenceMessage
from storage.evidence_store import Evidence, EvidenceStore

TURN_S: Final = 1.0
"""Each place in the validator set waits so much longer than the one before: time for a block."""
AGAIN_S: Final = 10.0
"""A report that is not final after so long is sent again."""
VALIDITY_MS: Final = 60_000
"""Of a report, where the network allows it; otherwise half of its window, for clocks differ."""
NONCE_BITS: Final = 64

log = structlog.get_logger("evidence")


class _Culprit(NamedTuple):
    """Who is accused; one proof for each is enough."""

    era: int
    epoch: int
    voter: int


class _Case:
    """One proof on its way to the chain."""

    def __init__(self, evidence: Evidence, validator: Validator, now_s: float) -> None:
        self.evidence = evidence
        self.validator = validator
        self.next_s = now_s
        """Monotonic time before which it need not be reported."""
        self.is_refused = False
        """The chain will not take it, for instance because it is too old."""


class EvidenceDesk:
    """Owner of the evidence that this node knows."""

    def __init__(
        self,
        chain_id: Digest,
        store: EvidenceStore,
        epochs: Epochs,
        state: State,
        reporter: SigningKey | None,
        *,
        keep: Callable[[Evidence], None],
        pass_on: Callable[[EvidenceMessage, PeerId | None], None],
        submit: Callable[[bytes], None],
        penalise: Callable[[PeerId, str], None],
    ) -> None:
        """Take up what is on disk; ``reporter`` is the key of an account that may report, if any.

        ``keep`` puts a proof on disk soon, ``pass_on`` sends one to every peer but its source,
        ``submit`` hands in a transaction.
        """
        self._chain_id = chain_id
        self._epochs = epochs
        self._state = state
        self._reporter = reporter
        self._keep = keep
        self._pass_on = pass_on
        self._submit = submit
        self._penalise = penalise
        self._cases: dict[_Culprit, _Case] = {}
        for evidence in store.all():
            self._open_case(evidence, 0)

    # ------------------------------------------------------------------ taking in

    def found(self, first: Vote, second: Vote, place: int) -> None:
        """Take evidence that the own engine has verified; ``place`` is this node's in the set."""
        self._take(Evidence(first, second), None, place)

    def receive(self, peer: PeerId, message: EvidenceMessage, place: int) -> None:
        """Take evidence from a peer, who answers for it."""
        first, second = message.first, message.second
        validators = self._epochs.validators_of(first.era, first.epoch)
        if validators is None:
            return  # an epoch that has not begun here
        problem = check_vote(first, validators.size)
        if problem is None and _culprit(first) in self._cases:
            return
        try:
            if problem is not None:
                raise InvalidEvidence(problem)
            verify_evidence(first, second, self._chain_id, validators, verify)
        except InvalidEvidence as error:
            log.warning("evidence_refused", peer=peer.hex(), reason=str(error))
            self._penalise(peer, "invalid_evidence")
            return
        self._take(Evidence(first, second), peer, place)

    def _take(self, evidence: Evidence, source: PeerId | None, place: int) -> None:
        culprit = _culprit(evidence.first)
        if culprit in self._cases or not self._open_case(evidence, place):
            return
        case = self._cases[culprit]
        log.error(
            "equivocation",
            validator=case.validator.name,
            epoch=evidence.first.epoch,
            view=evidence.first.view,
            kinds=[vote.kind.name for vote in evidence],
        )
        self._keep(evidence)
        self._pass_on(EvidenceMessage(*evidence), source)

    def _open_case(self, evidence: Evidence, place: int) -> bool:
        vote = evidence.first
        validators = self._epochs.validators_of(vote.era, vote.epoch)
        if validators is None:
            return False
        case = _Case(evidence, validators[vote.voter], monotonic() + place * TURN_S)
        self._cases[_culprit(vote)] = case
        return True

    # ------------------------------------------------------------------ giving out

    def unreported(self) -> list[tuple[Evidence, Validator]]:
        """Return what is not on chain yet, with the accused."""
        return [
            (case.evidence, case.validator)
            for case in self._cases.values()
            if not self._is_on_chain(case)
        ]

    def _is_on_chain(self, case: _Case) -> bool:
        return self._state.record(evidence_key(case.validator.consensus_key)) is not None

    def report_due(self) -> None:
        """Report what is due and not on chain; called now and then."""
        if self._reporter is None:
            return
        now_s = monotonic()
        for case in self._cases.values():
            if case.is_refused or now_s < case.next_s or self._is_on_chain(case):
                continue
            case.next_s = now_s + AGAIN_S
            self._report(case, self._reporter)

    def _report(self, case: _Case, key: SigningKey) -> None:
        time_ms = TimeMs(now_ms())
        window_ms = self._state.parameters.validity_window_ms
        wire = sign_transaction(
            self._chain_id,
            address_of(key.public_key),
            Nonce(secrets.randbits(NONCE_BITS)),
            TimeMs(time_ms + min(VALIDITY_MS, window_ms // 2)),
            (ReportEvidence(None, *case.evidence),),
            "",
            (key,),
        )
        expected = simulate(self._state, decode_transaction(self._chain_id, wire), time_ms)
        if expected.status is not ReceiptStatus.OK:
            case.is_refused = True
            log.error("evidence_not_reported", validator=case.validator.name, code=expected.code)
            return
        log.warning("evidence_reported", validator=case.validator.name)
        self._submit(wire)


def _culprit(vote: Vote) -> _Culprit:
    return _Culprit(vote.era, vote.epoch, vote.voter)
