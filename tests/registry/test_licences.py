"""Every licence that a library of ours states has the class that its text deserves."""

import pytest

from zoo.registry.catalogue import catalogue
from zoo.registry.licences import licence_class, licence_matches, short_licence

SWAG = "https://github.com/facebookresearch/SWAG/blob/main/LICENSE"

# Each string that timm 1.0.31, torchvision 0.29 and the lite wheels state of weights.
STATED = {
    "permissive": ("Apache-2.0", "apache-2.0", "bsd-3-clause", "cc-by-4.0", "mit"),
    "restricted": (
        "apple-amlr",
        "apple-ascl",
        "cc-by-nc-4.0",
        "cvnets-license",
        "dinov3-license",
        "fair-noncommercial-research-license",
        "fastvit-license",
        "gemma",
        "mobileone-license",
        "nvidia-open-model-license",
        "qwen-community-1.0",
        "sapiens2-license",
        "seer-license",
        SWAG,
    ),
    "unstated": ("", "unknown"),
}
CLASS_OF = {text: kind for kind, texts in STATED.items() for text in texts}


@pytest.mark.parametrize(("text", "kind"), CLASS_OF.items())
def test_what_libraries_state_has_its_class(text, kind):
    assert licence_class(text) == kind


def test_no_library_here_states_a_permissive_licence_that_the_list_above_lacks():
    stated = {each.licence for row in catalogue().rows for each in row.entry.weights}
    assert len(stated) > 15
    assert {text for text in stated if licence_class(text) == "permissive"} <= set(STATED["permissive"])
    assert {text for text in stated if licence_class(text) == "unstated"} <= set(STATED["unstated"])


@pytest.mark.parametrize(
    "text",
    ["MIT", "mit license", "Apache 2.0", "Apache License 2.0", "BSD-2-Clause", "ISC", "CC0-1.0", "Unlicense", "0BSD"],
)
def test_other_spellings_of_permissive_licences_are_known(text):
    assert licence_class(text) == "permissive"


@pytest.mark.parametrize(
    "text",
    ["CC-BY-NC-SA-4.0", "cc-by-sa-4.0", "cc-by-nd-4.0", "other", "llama3", "BSL-1.1", "gpl-3.0", "openrail", "mit-nc"],
)
def test_what_is_stated_and_not_known_to_be_permissive_is_restricted(text):
    assert licence_class(text) == "restricted"


@pytest.mark.parametrize(
    ("wanted", "text", "verdict"),
    [
        ("permissive", "MIT", True),
        ("permissive", "gemma", False),
        ("permissive", "", None),
        ("restricted", "gemma", True),
        ("restricted", "unknown", None),
        ("unstated", "unknown", True),
        ("unstated", "mit", False),
        ("apache*", "Apache-2.0", True),
        ("APACHE*", "apache-2.0", True),
        ("apache*", "mit", False),
        ("apache*", "", None),
    ],
)
def test_a_class_or_a_glob_matches_and_silence_is_neither_yes_nor_no(wanted, text, verdict):
    assert licence_matches(wanted, text) is verdict


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("apache-2.0", "apache-2.0"),
        (SWAG, "SWAG"),
        ("dinov3-license", "dinov3"),
        ("fair-noncommercial-research-license", "fair-noncom…"),
        ("https://www.example.org/terms", "example.org…"),
        ("", "-"),
        ("unknown", "-"),
    ],
)
def test_a_licence_is_cut_to_what_a_column_holds(text, short):
    assert short_licence(text) == short
    assert len(short) <= 12


@pytest.mark.parametrize("text", ["bsd-nc", "BSD-3-Clause-No-Nuclear-Warranty", "bsd-research-only"])
def test_what_only_begins_like_a_permissive_licence_is_not_one(text):
    assert licence_class(text) == "restricted"
