"""Backbones are chosen by what is stated of them; what nobody states is neither taken for yes nor lost in silence."""

import csv
import io

import pytest

import zoo
from zoo.config import ListConfig
from zoo.errors import UnknownNameError, ZooError
from zoo.jobs.choosing import choose
from zoo.jobs.filters import parse_count, short_count, short_gmacs
from zoo.jobs.listing import WIDTH, csv_text, row_json, table_lines
from zoo.registry.catalogue import Catalogue, CatalogueRow
from zoo.specs import BackboneEntry, Weights

SMALL = BackboneEntry(
    name="small",
    weights=(
        Weights(tag="free", licence="MIT", input_size=224, top1=70.0, origin="wheel:pytest"),
        Weights(tag="big", licence="cc-by-nc-4.0", input_size=384, top1=80.0, origin="hf-hub:a/b"),
    ),
    parameters=5_000_000,
    gmacs=0.5,
    input_size=224,
    features=("pooled", "tokens"),
    family="vit",
)
LARGE = BackboneEntry(
    name="large",
    weights=(Weights(tag="v1", licence="gemma", input_size=256, top1=85.5, origin="wheel:no_such_package"),),
    parameters=90_000_000,
    gmacs=15.0,
    input_size=256,
    features=("pooled",),
    family="resnet",
)
BARE = BackboneEntry(name="bare", parameters=1_000_000, gmacs=0.1, input_size=224, features=("pooled",), family="vit")
SILENT = BackboneEntry(name="silent", weights=(Weights(tag="t"),), input_size=None)


@pytest.fixture(autouse=True)
def shelf(monkeypatch):
    rows = [
        CatalogueRow(source=source, distribution="acme", entry=entry)
        for source, entry in (("a", BARE), ("a", SMALL), ("b", LARGE), ("b", SILENT))
    ]
    monkeypatch.setattr("zoo.jobs.choosing.catalogue", lambda: Catalogue(rows=tuple(rows)))


def chosen(*patterns, **options):
    return choose(ListConfig(pattern=patterns or ("*",), **options))


def names(*patterns, **options):
    return [row.entry.name for row in chosen(*patterns, **options).rows]


def test_without_options_there_is_everything_by_name():
    found = chosen()
    assert [row.name for row in found.rows] == ["a/bare", "a/small", "b/large", "b/silent"]
    assert found.footnote == ""


def test_several_patterns_are_united_and_each_must_match_something():
    assert names("sma", "b/l*") == ["small", "large"]
    assert names("small", "small") == ["small"]
    with pytest.raises(UnknownNameError, match=r"no backbone matches 'smal2'; did you mean a/small\?"):
        chosen("large", "smal2")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"source": "a"}, ["bare", "small"]),
        ({"family": "vit"}, ["bare", "small"]),
        ({"family": "*s*"}, ["large"]),
        ({"max_params": "5M"}, ["bare", "small"]),
        ({"min_params": "5e6"}, ["small", "large"]),
        ({"max_gmacs": 0.5}, ["bare", "small"]),
        ({"min_top1": 80.0}, ["small", "large"]),
        ({"input_size": 224}, ["bare", "small"]),
        ({"input_size": 384}, ["small"]),
        ({"max_input_size": 256}, ["bare", "small", "large"]),
        ({"feature": "tokens"}, ["small"]),
        ({"licence": "permissive"}, ["small"]),
        ({"licence": "restricted"}, ["small", "large"]),
        ({"licence": "unstated"}, ["silent"]),
        ({"licence": "mit"}, ["small"]),
        ({"pretrained": True}, ["small", "large", "silent"]),
        ({"on_disk": True}, ["small"]),
        ({"max_params": "5M", "licence": "restricted"}, ["small"]),
    ],
)
def test_each_option_chooses(options, expected):
    assert names(**options) == expected


@pytest.mark.parametrize(
    ("options", "tags"),
    [
        ({"licence": "restricted"}, ["big"]),
        ({"licence": "permissive"}, ["free"]),
        ({"min_top1": 75.0}, ["big"]),
        ({"on_disk": True}, ["free"]),
        ({"input_size": 384}, ["big"]),
        ({"max_gmacs": 1.0}, ["free"]),  # the figure holds for 224 pixels, and says nothing of 384
        ({"pretrained": True}, ["free", "big"]),
    ],
)
def test_what_is_asked_of_weights_leaves_those_that_fit_and_the_first_of_them_is_shown(options, tags):
    (row,) = chosen("small", **options).rows
    assert list(row.entry.tags) == tags
    line = table_lines(chosen("small", **options))[1]
    assert line.split()[7] == tags[0]


def test_filters_on_weights_must_hold_for_the_same_weights():
    assert names(licence="restricted", min_top1=75.0) == ["small", "large"]
    with pytest.raises(UnknownNameError, match=r"left by --licence permissive \(before it: 1 by name, 1 with --min"):
        chosen("small", licence="permissive", min_top1=75.0)


def test_what_nobody_states_falls_out_and_is_counted():
    found = chosen(max_params="100M")
    assert [row.entry.name for row in found.rows] == ["bare", "small", "large"]
    assert found.footnote == "1 more may fit, but nobody states their number of parameters (1)"
    assert chosen(on_disk=True).footnote == "1 more may fit, but nobody states their origin (1)"


def test_what_falls_out_for_another_reason_is_not_counted_as_unstated():
    assert chosen(source="a", max_params="100M").footnote == ""


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ({"sort": "params"}, ["bare", "small", "large", "silent"]),
        ({"sort": "params", "reverse": True}, ["large", "small", "bare", "silent"]),
        ({"sort": "gmacs"}, ["bare", "small", "large", "silent"]),
        ({"sort": "input"}, ["bare", "small", "large", "silent"]),
        ({"sort": "top1"}, ["large", "small", "bare", "silent"]),
        ({"sort": "top1", "reverse": True}, ["small", "large", "bare", "silent"]),
        ({"sort": "name", "reverse": True}, ["silent", "large", "small", "bare"]),
    ],
)
def test_the_order_is_the_one_asked_for_and_unknown_values_come_last(options, order):
    assert names(**options) == order


def test_a_limit_shows_the_first_and_says_how_many_there_are():
    found = chosen(sort="top1", limit=1)
    assert [row.entry.name for row in found.rows] == ["large"]
    assert table_lines(found)[-1] == "1 of 4 backbones"
    assert table_lines(chosen())[-1] == "4 backbones"


def test_a_row_for_each_set_of_weights():
    found = chosen(weights=True, sort="top1")
    assert zoo.list_backbones(weights=True, sort="top1") == ["b/large.v1", "a/small.big", "a/small.free", "b/silent.t"]
    assert [line.split()[0] for line in table_lines(found, each_weights=True)[1:-1]] == [
        "b/large.v1",
        "a/small.big",
        "a/small.free",
        "b/silent.t",
    ]
    assert table_lines(found, each_weights=True)[-1] == "4 sets of weights"
    with pytest.raises(UnknownNameError, match="no backbone is left by --weights"):
        chosen("bare", weights=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"family": "resnt"},
            r"left by --family resnt \(before it: 4 by name; of 1 of them nobody.*did you mean resne",
        ),
        ({"source": "timm"}, r"no backbone is left by --source timm \(before it: 4 by name\); there are a, b$"),
        (
            {"max_params": "10M", "min_top1": 99.0, "licence": "mit"},
            r"left by --min-top1 99\.0 \(before it: 4 by name, 2 with --max-params 10M\)$",
        ),
    ],
)
def test_an_empty_choice_names_the_option_that_emptied_it(options, message):
    with pytest.raises(UnknownNameError, match=message):
        chosen(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_params": "many"}, "--max-params must be a number such as 25M or 25e6, not 'many'"),
        ({"min_params": "-3"}, "--min-params must be a number"),
        ({"feature": "patches"}, "--feature must be one of pooled, cls, mean, cls\\+mean, tokens, not 'patches'"),
        ({"feature": "clss"}, "not 'clss'; did you mean cls"),
        ({"limit": 0}, "--limit must be at least 1, not 0"),
        ({"sort": "speed"}, "--sort must be one of name, params, gmacs, input, top1, not 'speed'"),
    ],
)
def test_a_value_that_cannot_be_is_refused(options, message):
    with pytest.raises(ZooError, match=message):
        chosen(**options)


@pytest.mark.parametrize(
    ("text", "count"), [("25M", 25e6), ("25e6", 25e6), ("1.5k", 1500), (".5b", 5e8), ("7", 7), ("1e+20", 1e20)]
)
def test_counts_are_written_as_people_write_them(text, count):
    assert parse_count(text, "--max-params") == count


def test_python_takes_the_same_filters():
    assert zoo.list_backbones() == ["a/bare", "a/small", "b/large", "b/silent"]
    assert zoo.list_backbones(["bare", "large"], max_params=2e6) == ["a/bare"]
    assert zoo.list_backbones("*", min_params=90_000_000, licence="restricted") == ["b/large"]
    with pytest.raises(
        TypeError, match=r"list_backbones has no filter 'max_param'; there are source, .*did you mean ma"
    ):
        zoo.list_backbones(max_param=1)
    with pytest.raises(TypeError, match="has no filter 'json'"):
        zoo.list_backbones(json=True)


def test_csv_has_units_in_its_heading_and_a_field_for_each_column():
    rows = list(csv.DictReader(io.StringIO(csv_text(chosen().rows))))
    small = next(row for row in rows if row["name"] == "a/small")
    assert small == {
        "name": "a/small",
        "parameters": "5000000",
        "gmacs": "0.5",
        "input_px": "224",
        "top1_percent": "70.0",
        "licence": "MIT",
        "tag": "free",
        "tags": "free big",
        "features": "pooled tokens",
        "family": "vit",
        "source": "a",
        "distribution": "acme",
        "on_disk": "True",
        "origin": "wheel:pytest",
    }
    bare = next(row for row in rows if row["name"] == "a/bare")
    assert (bare["tag"], bare["top1_percent"], bare["on_disk"]) == ("", "", "")


def test_json_says_of_each_weights_whether_they_are_here_and_what_kind_of_licence_they_have():
    (row,) = chosen("small").rows
    found = row_json(row)
    assert (found["name"], found["source"], found["tags"]) == ("a/small", "a", ("free", "big"))
    assert [(w["on_disk"], w["licence_class"]) for w in found["weights"]] == [
        (True, "permissive"),
        (False, "restricted"),
    ]


def test_a_table_keeps_within_its_width_and_shortens_no_name(monkeypatch):
    long = BackboneEntry(name="n" * 40, weights=(Weights(tag="t" * 50), Weights(tag="u")), input_size=224)
    row = CatalogueRow(source="a", distribution="acme", entry=long)
    monkeypatch.setattr("zoo.jobs.choosing.catalogue", lambda: Catalogue(rows=(row,)))
    line = table_lines(chosen())[1]
    assert len(line) == WIDTH
    assert line.startswith(row.name)
    assert line.endswith("t… +1")


def test_what_nobody_states_is_a_dash():
    (line,) = table_lines(chosen("silent"))[1:-1]
    assert line.split() == ["b/silent", "-", "-", "-", "-", "-", "-", "t"]


def test_a_name_with_a_tag_finds_its_row_with_those_weights():
    for pattern in ("a/small.big", "small.big", "A/SMALL.BIG", "a/*.big", "small.bi"):
        (row,) = chosen(pattern).rows
        assert (row.name, row.entry.tags) == ("a/small", ("big",)), pattern
    assert [row.entry.tags for row in chosen("small.big", "small.free").rows] == [("free", "big")]
    assert [row.entry.tags for row in chosen("small.big", "a/small").rows] == [("free", "big")]
    assert table_lines(chosen("a/small.big"))[1].split()[7] == "big"
    with pytest.raises(UnknownNameError, match=r"no backbone matches 'small\.huge'"):
        chosen("small.huge")


def test_words_match_whatever_their_case():
    assert names("SMALL", "B/Lar*") == ["small", "large"]


def test_a_count_of_one_is_no_plural():
    assert table_lines(chosen("small"))[-1] == "1 backbone"
    assert table_lines(chosen("small.big", weights=True), each_weights=True)[-1] == "1 set of weights"


@pytest.mark.parametrize(
    ("number", "text"), [(789, "789"), (12_345, "12.3k"), (999_960, "1.0M"), (25_557_032, "25.6M"), (1e9, "1000.0M")]
)
def test_small_counts_of_parameters_keep_their_digits(number, text):
    assert short_count(number) == text


@pytest.mark.parametrize(("gmacs", "text"), [(15.47, "15.47"), (0.385, "0.39"), (0.0123, "0.012"), (0.0, "0.00")])
def test_small_costs_keep_their_digits(gmacs, text):
    assert short_gmacs(gmacs) == text
