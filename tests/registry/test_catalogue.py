"""The catalogue is kept, is remade whenever it may differ, and outlives every source and folder that breaks."""

import json
import sys

import pytest

import zoo.registry.lookup
import zoo.registry.plugins
from zoo.disk import cache_folder
from zoo.jobs.filters import gmacs_of
from zoo.jobs.listing import find_rows, list_backbones
from zoo.registry.catalogue import Catalogue, CatalogueRow, catalogue, catalogue_key
from zoo.registry.plugins import Plugin
from zoo.specs import BackboneEntry, BackboneSource, Weights

NETS = (
    BackboneEntry(
        name="net_b",
        weights=(Weights(tag="in1k", top1=71.5, licence="MIT"), Weights(tag="in21k")),
        parameters=7,
        gmacs=0.5,
        input_size=96,
    ),
    BackboneEntry(name="net_a"),
)


def source(name="acme", entries=lambda: NETS):
    return BackboneSource(name=name, entries=entries, build=lambda model, tag: None)


def plugin(*sources, name="acme", distribution="acme-nets", failure=None):
    return Plugin(
        name=name, distribution=distribution, version="1.0", records={"zoo_backbones": sources}, failure=failure
    )


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    catalogue.cache_clear()
    yield tmp_path / "cache"
    catalogue.cache_clear()


@pytest.fixture
def offer(cache, monkeypatch):
    """Makes these plugins the only ones; timm and torchvision are not asked."""

    def offer(*plugins):
        monkeypatch.setattr(zoo.registry.lookup, "load_plugins", lambda: plugins)
        monkeypatch.setattr(zoo.registry.plugins, "load_plugins", lambda: plugins)

    return offer


@pytest.fixture
def counted(offer):
    """Offers a source; the list grows with each time that it is asked."""
    asked = []

    def entries():
        asked.append(1)
        return NETS

    offer(plugin(source(entries=entries)))
    return asked


def fresh():
    """The catalogue as the next process sees it."""
    catalogue.cache_clear()
    return catalogue()


def test_the_catalogue_is_sorted_and_read_back_equal(counted, cache):
    made = fresh()
    assert [row.name for row in made.rows] == ["acme/net_a", "acme/net_b"]
    assert made.rows[1] == CatalogueRow(source="acme", distribution="acme-nets", entry=NETS[0])
    assert fresh() == made
    assert len(counted) == 1
    assert [path.name for path in cache.iterdir()] == ["catalogue.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "\x00\xff",
        '{"key": "of another time", "rows": [], "problems": []}',
        '{"key": KEY}',
        '{"key": KEY, "rows": [["acme"]], "problems": []}',
        '{"key": KEY, "rows": [["acme", "acme-nets", []]], "problems": []}',
        '{"key": KEY, "rows": [["acme", "acme-nets", {"name": "x", "colour": "red"}]], "problems": []}',
        '{"key": KEY, "rows": [["acme", "acme-nets", {"name": ""}]], "problems": []}',
        '{"key": KEY, "rows": [], "problems": null}',
    ],
)
def test_a_torn_or_foreign_catalogue_is_made_anew(counted, cache, text):
    made = fresh()
    (cache / "catalogue.json").write_text(text.replace("KEY", json.dumps(catalogue_key())), encoding="latin-1")
    assert fresh() == made
    assert len(counted) == 2
    assert fresh() == made
    assert len(counted) == 2


def test_a_torn_half_of_the_real_file_is_made_anew(counted, cache):
    made = fresh()
    path = cache / "catalogue.json"
    path.write_bytes(path.read_bytes()[:-20])
    assert fresh() == made
    assert len(counted) == 2


@pytest.mark.parametrize("obstacle", ["the folder is a file", "the file is a folder", "the folder above is a file"])
def test_a_cache_that_cannot_be_written_does_not_stop_listing(counted, cache, obstacle, monkeypatch):
    if obstacle == "the folder is a file":
        cache.write_text("in the way")
    elif obstacle == "the file is a folder":
        (cache / "catalogue.json").mkdir(parents=True)
    else:
        cache.write_text("in the way")
        monkeypatch.setenv("ZOO_CACHE", str(cache / "below"))
    assert list_backbones("*") == ["acme/net_a", "acme/net_b"]
    assert len(fresh().rows) == 2
    assert len(counted) == 2
    if cache.is_dir():
        assert [path.name for path in cache.iterdir()] == ["catalogue.json"], "a half-written file was left behind"


def test_the_cache_folder_is_the_users_unless_zoo_cache_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("ZOO_CACHE")
    assert cache_folder().name == "backbone-zoo"


def explode():
    raise RuntimeError("no such library")


def leave():
    raise SystemExit("not on this machine")


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (explode, "RuntimeError: no such library"),
        (leave, "SystemExit: not on this machine"),
        (lambda: ["resnet18"], "TypeError: entries() gave 'resnet18', which is no BackboneEntry"),
        (lambda: None, "TypeError: 'NoneType' object is not iterable"),
        (
            lambda: [BackboneEntry(name="x", parameters=object())],
            "TypeError: Object of type object is not JSON serializable",
        ),
    ],
)
def test_a_source_that_cannot_list_is_a_problem_and_the_others_are_listed(offer, entries, reason):
    offer(plugin(source()), plugin(source("broken", entries), name="broken", distribution="broken-nets"))
    found = fresh()
    assert [row.name for row in found.rows] == ["acme/net_a", "acme/net_b"]
    assert found.problems == (f"source 'broken' of broken-nets: {reason}",)


def test_a_plugin_that_did_not_load_is_a_problem(offer):
    offer(plugin(source()), plugin(name="broken", distribution="broken-nets", failure="OSError: gone"))
    found = fresh()
    assert len(found.rows) == 2
    assert found.problems == ("plugin 'broken' of broken-nets 1.0: OSError: gone",)


def test_a_catalogue_in_which_something_failed_is_not_kept(offer, cache):
    """What failed may work the next time, with the same key: a library that apt installs, a network that returns."""
    answers = [explode, lambda: NETS]
    offer(plugin(source(entries=lambda: answers.pop(0)())))
    assert fresh().rows == ()
    assert not (cache / "catalogue.json").exists()
    assert fresh().problems == ()
    assert len(fresh().rows) == 2


def test_a_catalogue_beside_a_broken_plugin_holds_as_long_as_it_is_broken_in_the_same_way(offer):
    asked = []

    def entries():
        asked.append(1)
        return NETS

    def listed(failure):
        offer(plugin(source(entries=entries)), plugin(name="bad", distribution="bad-nets", failure=failure))
        return fresh().problems

    gone, other = ("plugin 'bad' of bad-nets 1.0: OSError: gone",), ("plugin 'bad' of bad-nets 1.0: OSError: torn",)
    assert [listed("OSError: gone"), listed("OSError: gone"), len(asked)] == [gone, gone, 1]
    assert [listed("OSError: torn"), len(asked)] == [other, 2]
    assert [listed(None), listed(None), len(asked)] == [(), (), 3]


def test_keyboard_interrupt_while_listing_stops_the_program(offer):
    def entries():
        raise KeyboardInterrupt

    offer(plugin(source(entries=entries)))
    with pytest.raises(KeyboardInterrupt):
        fresh()


def test_what_a_source_prints_does_not_spoil_standard_output(offer, capsys):
    def entries():
        print("downloading…")
        return NETS

    offer(plugin(source(entries=entries)))
    assert len(fresh().rows) == 2
    assert capsys.readouterr().out == ""


def test_a_source_claimed_twice_is_a_problem_and_is_listed_under_no_ambiguous_name(offer):
    other = (BackboneEntry(name="net_c"),)
    offer(
        plugin(source("solo")),
        plugin(source(), name="one", distribution="acme-one"),
        plugin(source(entries=lambda: other), name="two", distribution="acme-two"),
    )
    found = fresh()
    assert [row.name for row in found.rows] == [
        "acme-one:acme/net_a",
        "acme-one:acme/net_b",
        "acme-two:acme/net_c",
        "solo/net_a",
        "solo/net_b",
    ]
    assert found.problems == (
        "backbone source 'acme' is claimed by acme-one 1.0 (one) and acme-two 1.0 (two); "
        "say acme-one:acme or acme-two:acme, or switch one off with ZOO_DISABLE=DISTRIBUTION:PLUGIN",
    )
    assert fresh() == found


def test_a_source_that_one_distribution_claims_twice_is_a_problem_and_not_listed(offer):
    offer(plugin(source(), name="one"), plugin(source(), name="two"), plugin(source("solo"), name="solo"))
    found = fresh()
    assert [row.name for row in found.rows] == ["solo/net_a", "solo/net_b"]
    (problem,) = found.problems
    assert problem.startswith(
        "backbone source 'acme' is claimed by acme-nets 1.0 (one) and acme-nets 1.0 (two); switch"
    )


def test_a_word_matches_anywhere_and_a_glob_matches_the_whole_name(offer):
    offer(plugin(source()))
    fresh()
    assert list_backbones("net_a") == ["acme/net_a"]
    assert list_backbones("acme/*_b") == ["acme/net_b"]
    assert [row.entry.parameters for row in find_rows("*b")] == [7]


def test_the_key_holds_when_nothing_changes(site, install, head):
    install("acme", head("cosine"))
    assert catalogue_key() == catalogue_key()


def test_the_key_changes_with_zoo_disable(site, monkeypatch):
    before = catalogue_key()
    monkeypatch.setenv("ZOO_DISABLE", "timm")
    assert catalogue_key() != before


def test_the_key_changes_with_an_edited_single_module_plugin(install, head):
    path = install("acme", head("cosine"))
    before = catalogue_key()
    path.write_text(path.read_text() + "# edited\n")
    assert catalogue_key() != before


def test_the_key_changes_with_an_edited_file_deep_in_a_package(install, site):
    inner = site / "acme_nets" / "models" / "tiny.py"
    inner.parent.mkdir(parents=True)
    (site / "acme_nets" / "__init__.py").touch()
    inner.write_text("WIDTH = 1\n")
    install("acme", "", value="acme_nets.hooks")
    before = catalogue_key()
    inner.write_text("WIDTH = 16\n")
    assert catalogue_key() != before
    assert "acme_nets" not in sys.modules


def test_the_key_changes_with_any_newly_installed_distribution(site):
    before = catalogue_key()
    (site / "some_library-3.1.dist-info").mkdir()
    between = catalogue_key()
    assert between != before
    (site / "some_library-3.1.dist-info").rename(site / "some_library-3.2.dist-info")
    assert catalogue_key() not in (before, between)


def test_the_key_changes_with_an_entry_point_added_to_an_installed_distribution(install, head, site):
    install("acme", head("cosine"))
    before = catalogue_key()
    (site / "acme-1.0.dist-info" / "entry_points.txt").write_text("[zoo]\nacme = acme_plugin\nmore = acme_plugin\n")
    assert catalogue_key() != before


@pytest.mark.parametrize("value", ["no module at all!", "no_such_module", "no_such.module"])
def test_an_entry_point_without_a_module_does_not_stop_the_key(install, value):
    install("acme", "", value=value)
    assert catalogue_key()


def test_an_editors_dangling_lock_file_does_not_stop_the_key(install, site):
    package = site / "acme_nets"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / ".#models.py").symlink_to("someone@somewhere.1234")
    install("acme", "", value="acme_nets")
    assert catalogue_key()


def test_making_the_key_imports_no_plugin(install, tmp_path):
    trace = tmp_path / "trace"
    install("acme", f"open({str(trace)!r}, 'w').close()")
    catalogue_key()
    assert not trace.exists()


def test_a_catalogue_without_rows_is_kept_too(offer, cache):
    offer()
    assert fresh() == Catalogue(rows=())
    assert json.loads((cache / "catalogue.json").read_text())["rows"] == []


def test_the_input_of_the_default_weights_is_that_of_an_entry_that_states_none(install):
    install(
        "acme",
        """
        from zoo.specs import BackboneEntry, Weights

        def entries():
            small, large = Weights(tag="s", input_size=64), Weights(tag="l", input_size=96)
            yield BackboneEntry(name="a", gmacs=0.5, weights=(small, large))
            yield BackboneEntry(name="b", gmacs=0.5, weights=(Weights(tag="s"),))
            yield BackboneEntry(name="c", gmacs=0.5, input_size=32, weights=(small,))

        @hookimpl
        def zoo_backbones():
            yield BackboneSource(name="acme", entries=entries, build=print)
        """,
    )
    rows = {row.entry.name: row for row in catalogue().rows if row.source == "acme"}
    assert {name: row.entry.input_size for name, row in rows.items()} == {"a": 64, "b": None, "c": 32}
    shown = {name: [gmacs_of(row, weights) for weights in row.entry.weights] for name, row in rows.items()}
    assert shown == {"a": [0.5, None], "b": [0.5], "c": [None]}
