"""What a check is, how it fails, and how its outcome is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "skipped", "excluded"]


class CheckFailedError(AssertionError):
    """A promise of the contract that does not hold; the message says which, what was found and what to do."""


class NotApplicable(Exception):  # noqa: N818  nothing went wrong
    """A check that has nothing to look at here; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One promise about one thing.

    Attributes:
        subject: what is checked, as in `backbone acme/tiny` or `head cosine`.
        name: of the promise, as in `the-classifier-alone-changes-with-the-classes`.
        run: raises `CheckFailedError` where it does not hold and `NotApplicable` where there is nothing to check; any
            other exception is a failure too.
    """

    subject: str
    name: str
    run: Callable[[], None]

    def __call__(self) -> None:
        """Run it."""
        self.run()

    def __str__(self) -> str:
        return f"{self.subject}: {self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """How a check ended.

    Attributes:
        outcome: `excluded` where it fails for a reason that its author has stated.
        message: why it failed, was skipped or is excluded.
        seconds: it took.
    """

    subject: str
    check: str
    outcome: Outcome
    message: str = ""
    seconds: float = 0.0


def require(holds: bool, message: str) -> None:
    """Raise `CheckFailedError` with `message` unless it holds."""
    if not holds:
        raise CheckFailedError(message)


def listed(names: Iterable[object]) -> str:
    """The first five of some names, sorted, and how many more there are."""
    found = sorted(str(name) for name in names)
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def perform(check: Check, exclusions: Mapping[str, str] | None = None) -> Result:
    """Run a check and tell how it ended; `exclusions` holds the stated reason of checks that are known not to hold.

    An excluded check that holds after all is a failure, so that no exclusion outlives its reason.
    """
    reason = (exclusions or {}).get(check.name)
    started = time.perf_counter()
    outcome, message = _ran(check)
    if reason is not None:
        if outcome == "passed":
            outcome, message = "failed", f"it holds, so its exclusion is to be removed: {reason}"
        elif outcome == "failed":
            outcome, message = "excluded", reason
    seconds = round(time.perf_counter() - started, 3)
    return Result(subject=check.subject, check=check.name, outcome=outcome, message=message, seconds=seconds)


def _ran(check: Check) -> tuple[Outcome, str]:
    try:
        check.run()
    except NotApplicable as reason:
        return "skipped", str(reason)
    except CheckFailedError as error:
        return "failed", str(error)
    except Exception as error:  # whatever a plugin raises is its failure, not the kit's
        return "failed", f"{type(error).__name__}: {error}"
    return "passed", ""
