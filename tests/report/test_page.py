from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from zoo.metrics.classification import classification_metrics
from zoo.report.classes import poorest
from zoo.report.page import Mistake, duration, moment, plain, render_report
from zoo.report.pictures import data_uri, reliability_diagram, training_curves

HOSTILE = "<script>alert('x')</script>"
MINIMAL = {
    "format": 1,
    "backbone": {"name": "timm/resnet50"},
    "data": {"name": "cells"},
    "freeze": {"policy": "head"},
    "training": {},
}
FULL = {
    **MINIMAL,
    "created": "2026-11-23T20:55:00+00:00",
    "seconds": {"total": 185.2, "features": 11.8},
    "versions": {"torch": "2.15.0"},
    "machine": {"device": "cpu", "threads": 2},
    "command": {"--freeze": "head"},
    "backbone": {
        "name": "timm/resnet50",
        "tag": "a1_in1k",
        "licence": "Apache-2.0",
        "parameters": 25557032,
        "input": {"size": [224, 224]},
        "feature": {"name": "pooled", "width": 2048},
        "stages": [
            {"name": "layer4", "role": "stage", "parameters": 14964736, "trainable": 0},
            {"name": "fc", "role": "classifier", "parameters": 6147, "trainable": 6147},
        ],
    },
    "data": {
        "name": "cells",
        "rows": 1200,
        "licence": "CC-BY-4.0",
        "notes": ["Groups are unknown."],
        "tasks": [{"name": "defect", "kind": "classification", "classes": ["ok", "crack"]}],
        "splits": {"train": 1000, "val": 100, "test": 100, "how": "drawn with seed 0"},
        "counts": {"defect": {"ok": {"train": 900, "val": 90, "test": 90}, "crack": {"train": 100, "val": 10}}},
        "bad_files": [{"image": f"broken{i}.png", "reason": "empty"} for i in range(23)],
        "warnings": ["23 files were left out."],
        "covariates": ["type"],
    },
    "freeze": {"policy": "head", "trainable_stages": ["fc"], "trainable_parameters": 6147,
               "frozen_parameters": 23508032, "verified": "bit for bit as at step 0"},
    "decisions": [{"what": "boundary", "choice": "after layer4", "why": "nothing before it trains"}],
    "imbalance": [{"target": "defect", "strategy": "class-weights", "element_weights": {"ok": 0.5, "crack": 5.0},
                   "logit_bias": {}, "corrected": 1.0}],
    "imputation": [{"kind": "covariates", "imputer": "mean", "filled": {"type": 12}}],
    "training": {"epochs": 3, "best_epoch": 2, "metric": "balanced_accuracy", "best_value": 0.8125,
                 "optimiser": "adamw", "learning_rate": 0.001, "weight_decay": 0.01, "batch_size": 64,
                 "images_per_second": 1234.5},
}  # fmt: skip
HISTORY = [
    {
        "epoch": i,
        "train_loss": 1 / (i + 1),
        "val_loss": 1.1 / (i + 1),
        "defect/macro_f1": 0.1 * i,
        "learning_rate": 1e-3,
    }
    for i in range(3)
]


def report(classes: tuple[str, ...] = ("ok", "crack", "hole"), rows: int = 60, drawn: int = 2) -> dict:
    """Of rows that are of the first `drawn` classes."""
    generator = torch.Generator().manual_seed(rows)
    probabilities = torch.rand(rows, len(classes), generator=generator).softmax(1)
    labels = torch.randint(0, drawn, (rows,), generator=generator)
    return classification_metrics(probabilities, labels, classes).to_json()


def thumbnail(kind: str = "PNG") -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (8, 8), "grey").save(held, kind)
    return held.getvalue()


MISTAKE = Mistake(image="a/b.png", true="crack", predicted="ok", probability=0.97, thumbnail=thumbnail("JPEG"))


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that what is opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.links, self.words, self.open = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "action", "data")]
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def full_page() -> str:
    return render_report(FULL, {"defect": {"val": report(), "test": report(rows=40)}}, HISTORY, [MISTAKE])


def test_the_page_stands_alone():
    page = full_page()
    read = Reader(page)
    assert read.open == []
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(read.tags)
    assert [link for link in read.links if not link.startswith(("data:image/", "#"))] == []
    assert not re.search(r"@import|url\((?!#)", page)
    assert re.findall(r"https?://[^\s\"']+", re.sub(r'xmlns(:xlink)?="[^"]+"', "", page)) == []
    assert "default-src 'none'" in page


def test_the_page_says_what_was_done_and_with_what():
    text = Reader(full_page()).text
    for said in [
        "timm/resnet50 .a1_in1k on cells", "freeze head · 1,200 rows · 2026-11-23 20:55 UTC · 3 min 05 s",
        "6,147 of 23,514,179 parameters; 23,508,032 frozen", "bit for bit as at step 0", "pooled × 2,048", "224 × 224",
        "3, the best is 2 (balanced accuracy 0.812 on validation rows)",
        "adamw, learning rate 0.001, weight decay 0.01",
        "1,234 images/s", "training corrects 100 % of the imbalance", "class weights: ok: 0.5, crack: 5",
        "mean; values filled: type: 12", "boundary after layer4 nothing before it trains", "Groups are unknown.",
        "training 1,000, validation 100, test 100 ; drawn with seed 0", "23 files were left out.",
        "23 files that cannot", "broken19.png", "and 3 more; run.json has them all", "Licence of the data: CC-BY-4.0",
        "crack 100 10 0 110", "40 test rows", "defect · macro F1", "epoch 2, whose weights were kept",
        "crack taken for ok at 97 %", "layer4 stage 14,964,736 0 frozen", "fc classifier 6,147 6,147 trains",
        "zoo predict .", "zoo evaluate .", "torch: 2.15.0",
    ]:  # fmt: skip
        assert said.replace(" ;", ";") in text.replace(" ;", ";"), said


def test_only_what_every_run_has_is_needed():
    text = Reader(render_report(MINIMAL, {"defect": {"val": report()}}, [], [])).text
    assert "No epoch was recorded." in text
    assert "None among the rows looked at." in text
    assert "none" not in text.split("Training")[0]


def test_without_a_test_split_the_page_says_that_its_figures_are_optimistic():
    sentence = "There is no test split: these figures are of the validation rows, which also chose the epoch"
    assert sentence in Reader(render_report(MINIMAL, {"defect": {"val": report()}}, [], [])).text
    assert sentence not in Reader(full_page()).text


def test_the_headline_is_of_the_test_rows_where_there_are_some():
    held_out = {"val": report(rows=60), "test": report(rows=40)}
    text = Reader(render_report(MINIMAL, {"defect": held_out}, [], [])).text
    headline = text[text.index("defect 40 test rows") : text.index("What was done")]
    assert f"{held_out['test']['accuracy']:.3f} accuracy" in headline


def test_what_is_undefined_is_called_so_with_its_reason_and_is_no_zero():
    page = render_report(MINIMAL, {"defect": {"val": report()}}, [], [])
    text = Reader(page).text
    headline = text[: text.index("What was done")]
    assert re.search(r"undefined \d ROC AUC", headline)
    assert "ROC AUC of the validation rows: undefined for 'hole'" in text
    assert "recall of 'hole' among the validation rows: no row of this class" in text
    assert re.search(r"hole 0 \d+ undefined \d [\d.]+", text)
    assert "G-mean of the validation rows: no row of 'hole'" in text
    # ROC AUC in the headline; it, PR AUC and G-mean in the summary; recall and both areas of the class
    assert page.count('class="undefined"') == 7


def test_which_class_is_poor_is_seen_at_a_glance():
    truth, predicted = [0] * 8 + [1] * 4, [0] * 8 + [1, 0, 0, 2]
    held = classification_metrics(torch.eye(3)[predicted], torch.tensor(truth), ("ok", "crack", "hole")).to_json()
    page = render_report(MINIMAL, {"defect": {"test": held}}, [], [])
    text = Reader(page).text
    said = "Poorest class crack, F1 0.400; 1 of 4 rows found (95 % interval 0.046 to 0.699), 2 taken for ok; 1 of 1"
    assert said in text[: text.index("What was done")]
    assert re.findall(r'<tr class="worst"><th>([^<]+)</th>', page) == ["crack"]
    bars = re.findall(r'<div class="bar (\w+)( poor)?" title="([^"]+)"><i style="width:([\d.]+)%">', page)
    assert [bar[:2] + bar[3:] for bar in bars] == [
        ("recall", "", "100.0"), ("precision", "", "80.0"),
        ("recall", " poor", "25.0"), ("precision", "", "100.0"), ("precision", " poor", "0.0"),
    ]  # fmt: skip
    assert bars[2][2] == "recall: 1 of 4 rows found; 95 % interval 0.046 to 0.699"


def test_a_class_that_is_mostly_missed_is_said_to_be_taken_for_another():
    truth, predicted = [0] * 8 + [1] * 4, [0] * 12
    held = classification_metrics(torch.eye(2)[predicted], torch.tensor(truth), ("ok", "crack")).to_json()
    assert poorest(held) == (
        "crack, F1 0.000; 0 of 4 rows found (95 % interval 0.000 to 0.490), 4 taken for ok; never predicted"
    )
    assert poorest(classification_metrics(torch.eye(2), torch.tensor([0, 1]), ("ok", "crack")).to_json()) == ""


def test_figures_stand_with_their_intervals_and_how_these_were_made():
    held = report(rows=40)
    text = Reader(render_report(MINIMAL, {"defect": {"val": report(), "test": held}}, [], [])).text
    low, high = held["intervals"]["bounds"]["accuracy"]
    assert f"{held['accuracy']:.3f} accuracy {low:.3f} to {high:.3f}" in text
    assert f"Intervals: {held['intervals']['how']}." in text.replace("&#39;", "'")


def test_a_figure_without_an_interval_has_the_reason_in_a_footnote():
    held = report(drawn=3)
    held["intervals"] |= {"left_out": {"roc_auc": "too many rows"}}
    del held["intervals"]["bounds"]["roc_auc"]
    text = Reader(render_report(MINIMAL, {"defect": {"test": held}}, [], [])).text
    assert "ROC AUC of the test rows: has no interval: too many rows" in text


def test_calibration_is_drawn_from_bins_with_rows_alone():
    page = render_report(MINIMAL, {"defect": {"test": report()}}, [], [])
    assert "share that is right" in page
    bins = [{"rows": 0, "confidence": None, "accuracy": None}, {"rows": 4, "confidence": 0.7, "accuracy": 0.5}]
    ET.fromstring(reliability_diagram(bins))


def test_a_curve_of_one_class_keeps_the_name_of_the_class():
    (panel,) = training_curves([{"epoch": 1, "a/b/f1(1/3)": 0.5}])
    assert panel.legend[0][0] == "a/b · F1(1/3)"


def test_names_from_the_data_are_shown_and_never_run():
    classes = ("ok", HOSTILE, "$x_1$ 裂纹")
    run = {
        **FULL,
        "data": {"name": HOSTILE, "notes": [HOSTILE], "warnings": [HOSTILE],
                 "bad_files": [{"image": HOSTILE, "reason": HOSTILE}], "counts": {HOSTILE: {HOSTILE: {"train": 1}}}},
        "backbone": {"name": HOSTILE, "tag": HOSTILE},
        "command": {HOSTILE: HOSTILE},
    }  # fmt: skip
    mistake = Mistake(image=f'"><{HOSTILE}', true=HOSTILE, predicted="ok", probability=1.0, thumbnail=thumbnail())
    history = [{"epoch": 0, f"{HOSTILE}/macro_f1": 0.5, "_裂纹$/macro_f1": 0.5}]
    page = render_report(run, {HOSTILE: {"val": report(classes, drawn=3)}}, history, [mistake])
    read = Reader(page)
    assert "script" not in read.tags
    assert "<script" not in page
    assert read.text.count(HOSTILE) > 10
    assert "$x_1$ 裂纹" in read.text
    assert read.open == []


def test_the_confusion_matrix_shows_counts_and_shades_them_by_the_true_class():
    held = classification_metrics(torch.eye(2)[[0, 0, 0, 1, 1]], torch.tensor([0, 0, 0, 0, 1]), ("ok", "bad")).to_json()
    page = render_report(MINIMAL, {"defect": {"test": held}}, [], [])
    cells = re.findall(r'<td class="(hit|miss)[^"]*" style="--share:([\d.]+)" title="([^"]*)">(\d+)</td>', page)
    assert [(kind, share, count) for kind, share, _, count in cells] == [
        ("hit", "0.750", "3"),
        ("miss", "0.250", "1"),
        ("miss", "0.000", "0"),
        ("hit", "1.000", "1"),
    ]
    assert cells[1][2] == "1 of 4 rows of ok taken for bad (25%)"


def test_many_classes_are_shown_by_their_most_frequent_confusions():
    classes = tuple(f"c{i}" for i in range(40))
    text = Reader(render_report(MINIMAL, {"kind": {"val": report(classes, rows=400, drawn=40)}}, [], [])).text
    assert "Most frequent confusions" in text
    assert "rows of c0 taken for" not in text


def test_several_tasks_each_have_their_figures():
    text = Reader(render_report(MINIMAL, {"a": {"val": report()}, "b": {"test": report()}}, [], [])).text
    assert "Scores of a" in text
    assert "Scores of b" in text
    assert text.count("no test split") == 1


def test_curves_are_drawn_for_what_the_history_holds():
    panels = training_curves(HISTORY, best_epoch=2)
    assert [panel.title for panel in panels] == ["Loss", "Metrics of the validation rows", "Learning rate"]
    assert [label for label, _ in panels[0].legend] == ["training rows", "validation rows"]
    for panel in panels:
        ET.fromstring(panel.svg)
    assert training_curves([]) == []
    assert [panel.title for panel in training_curves([{"epoch": 0, "train_loss": 1.0, "a/f1": None}])] == ["Loss"]
    assert training_curves(HISTORY, 2) == panels  # the same run gives the same page


def test_borders_of_intervals_are_drawn_in_every_panel():
    plain_, marked = training_curves(HISTORY, 2), training_curves(HISTORY, 2, borders=(1,))
    for without, panel in zip(plain_, marked, strict=True):
        # A dotted line's dashes are as long as it is wide, 1.2 points.
        assert panel.svg.count("stroke-dasharray: 1.2,") == without.svg.count("stroke-dasharray: 1.2,") + 1


INTERVALS = [
    {"epochs": [1, 1], "policy": "head", "rate": 1.0, "trainable_parameters": 1000, "parameters": 1_000_000,
     "learning_rate": 0.01, "backbone_learning_rate": None, "epochs_run": 1},
    {"epochs": [2, 3], "policy": "last(2)", "rate": 0.5, "trainable_parameters": 251_000, "parameters": 1_000_000,
     "learning_rate": 0.0005, "backbone_learning_rate": 0.00005, "epochs_run": 2},
]  # fmt: skip


def test_a_schedule_shows_its_intervals_and_one_policy_shows_none():
    freeze = {"policy": "last(2)@lp-ft(1)", "intervals": INTERVALS}
    page = Reader(render_report({**MINIMAL, "freeze": freeze}, {}, HISTORY, []))
    words = " ".join(page.text.split())
    assert "What trained when" in words
    assert "1 head 1,000 0.1% 0.01 frozen" in words
    assert "2 to 3 last(2) 251,000 25.1% 0.0005 5e-05" in words
    assert "Dotted: what trains changes." not in words  # no epoch is the best
    one = {"policy": "head", "intervals": INTERVALS[:1]}
    assert "What trained when" not in Reader(render_report({**MINIMAL, "freeze": one}, {}, HISTORY, [])).text


def test_methods_are_shown_where_they_were_used():
    used = {"epochs": 9, "epochs_run": 4, "schedule": "cosine", "layer_decay": 0.75, "accumulate": 4, "clip_norm": 1.0,
            "ema": 0.999, "label_smoothing": 0.1, "mixup": 0.2, "cutmix": 1.0, "patience": 3}  # fmt: skip
    words = " ".join(Reader(render_report({**MINIMAL, "training": used}, {}, [], [])).text.split())
    for said in (
        "epochs stopped early after 4 of 9",
        "learning rate cosine",
        "layer decay 0.75 from block to block",
        "accumulation 4 batches to a step",
        "clipping gradients to a norm of 1",
        "moving average of the weights, with decay 0.999",
        "label smoothing 0.1",
        "mixup shares from Beta(0.2, 0.2)",
        "cutmix boxes from Beta(1, 1)",
        "patience 3 epochs without an improvement end the run",
    ):
        assert said in words
    idle = {"layer_decay": 1.0, "accumulate": 1, "clip_norm": None, "ema": None, "label_smoothing": 0.0, "mixup": 0.0,
            "cutmix": 0.0, "patience": None}  # fmt: skip
    text = Reader(render_report({**MINIMAL, "training": idle}, {}, [], [])).text
    assert not [name for name in ("layer decay", "accumulation", "clipping", "moving average", "mixup") if name in text]


def test_a_thumbnail_is_a_jpeg_or_a_png():
    assert data_uri(thumbnail("PNG")).startswith("data:image/png;base64,")
    assert data_uri(thumbnail("JPEG")).startswith("data:image/jpeg;base64,")
    with pytest.raises(ValueError, match="a thumbnail must be the bytes of a JPEG or PNG file"):
        data_uri(b"<svg onload=alert(1)>")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.44, "8.4 s"), (59.96, "1 min 00 s"), (185.2, "3 min 05 s"), (3599.7, "1 h 00 min"), (7800, "2 h 10 min")],
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


def test_values_of_json_are_for_people():
    assert plain({"a": 1234567, "b": [0.00012345, None], "c": True, "d": "x"}) == (
        "a: 1,234,567, b: 0.0001234, none, c: yes, d: x"
    )
    assert plain([]) == "none"
    assert moment("yesterday") == "yesterday"
