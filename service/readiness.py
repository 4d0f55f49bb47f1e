"""Whether requests should be sent here: one list of reasons why not, the gravest first.

/readyz answers with the first that holds, the metric fc7_readiness names it, and docs/operating.md says what to do.
(A service that stops is not in the list: Admission refuses whatever it is asked.)
"""

from collections.abc import Callable

from service.errors import KINDS, CanaryFailed, DamagedIndex, NoDecoder, NotReady
from service.workers import Workers

__all__ = ["damaged", "differing", "state", "unready"]


def damaged(workers: Workers) -> DamagedIndex | None:
    part = workers.lease.current.verification.damaged
    return None if part is None else DamagedIndex(part)


def _unasked(workers: Workers) -> NotReady | None:
    if workers.lease.current.canaries.asked:
        return None
    return NotReady("the network and the index are loaded; whether they fit is still being found out")


def differing(workers: Workers) -> CanaryFailed | None:
    if workers.lease.current.canaries.failed:
        return CanaryFailed(
            "images of the index no longer give the features that are indexed: the network or the decoding has "
            "changed; restart, and if that does not help, build the index again"
        )
    return None


def _decoderless(workers: Workers) -> NoDecoder | None:
    why = workers.decoders.problem
    return None if why is None else NoDecoder(why)


REASONS: tuple[Callable[[Workers], Exception | None], ...] = (damaged, differing, _decoderless, _unasked)


def unready(workers: Workers | None) -> Exception | None:
    """Return why no requests should be sent, None where they should."""
    if workers is None:
        return NotReady()
    return next((error for reason in REASONS if (error := reason(workers))), None)


def state(workers: Workers | None) -> str:
    """Return `ready`, or the last part of the problem's type."""
    error = unready(workers)
    return "ready" if error is None else KINDS[type(error)].name
