"""What an imputer does wrong is told of its plugin, and not of the user's table."""

import numpy as np
import pytest

from zoo.data.covariates import fix_schema
from zoo.errors import OptionError, PluginError
from zoo.run.covariates import Covariates
from zoo.specs import Call
from zoo.testing.tables import draw_sample

CODE = """
    from dataclasses import replace
    from zoo.specs import ImputerRecord

    class Odd:
        def transform(self, columns):
            import numpy as np
            {transform}
        def save(self):
            return {{}}, {{}}

    def fit(view, parameters, generator):
        {fit}
        return Odd()

    def load(arrays, values):
        return values["lost"]

    @hookimpl
    def zoo_imputers():
        yield ImputerRecord(name="odd", fills="covariates", fit=fit, load=load)
"""
ZERO = "return replace(columns, numeric=np.nan_to_num(columns.numeric))"


def fitted(install, fit="pass", transform=ZERO):
    install("acme", CODE.format(fit=fit, transform=transform), distribution="acme-fill", version="0.3")
    sample = draw_sample(("age", "mass"))
    schema = fix_schema(sample.table, sample.splits.train)
    return sample, Covariates.fit(schema, sample.view, Call(name="odd"), seed=0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"transform": "return columns"}, r"it leaves holes in age, mass; `zoo check acme`"),
        ({"transform": "return None"}, "it gave None, which is no CovariateColumns"),
        ({"transform": "return {}['key']"}, "KeyError: 'key'"),
        ({"fit": "{}['key']"}, "KeyError: 'key'"),
    ],
)
def test_an_imputer_that_breaks_or_leaves_holes_is_named_with_its_plugin(install, changes, said):
    with pytest.raises(PluginError, match=rf"^plugin acme-fill 0\.3 \(imputer odd\): {said}"):
        fitted(install, **changes)


def test_an_imputer_that_refuses_is_the_users_matter(install):
    with pytest.raises(OptionError, match=r"^odd: too few rows"):
        fitted(install, fit="raise ValueError('too few rows')")


def test_an_imputer_that_fills_everything_is_used(install):
    sample, found = fitted(install)
    encoded, _, filled = found.encode(sample.table)
    assert np.isfinite(encoded.numpy()).all()
    assert set(filled) == {"age", "mass"}


def test_an_imputer_that_cannot_be_read_back_is_named(install):
    _, found = fitted(install)
    encoder, imputers = found.save()
    with pytest.raises(PluginError, match=r"\(imputer of covariates odd\): KeyError: 'lost'"):
        Covariates.load(encoder, imputers)
