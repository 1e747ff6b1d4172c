"""The conformance kit: what every backbone, head, strategy, imputer and data set promises, as checks.

A plugin's own test is three lines::

    from zoo.testing import parametrize_with_checks

    @parametrize_with_checks("acme")
    def test_conformance(check):
        check()

`zoo check acme` runs the same checks from the command line.
"""

from zoo.testing.check import Check, CheckFailedError, NotApplicable, Result, perform
from zoo.testing.collect import checks_of, parametrize_with_checks

__all__ = ["Check", "CheckFailedError", "NotApplicable", "Result", "checks_of", "parametrize_with_checks", "perform"]
