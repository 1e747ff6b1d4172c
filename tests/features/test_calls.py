"""The calls of a forward pass are seen as they were made, and modules can be made to answer instead of computing."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from zoo.features.calls import Answer, CutError, Recorder, Stubs, answer_of, go, gradients_of, modes_kept, tensors_of

CPU = torch.device("cpu")


def run(module, images):
    return module(images)


class Twice(nn.Module):
    """One layer that is called twice, the second time inside another module."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.block = nn.Sequential(self.layer, nn.ReLU(inplace=True))

    def forward(self, images):
        return self.block(self.layer(images))


def answered(module, site, images=2):
    """What `site` gives, from passes of two and of three images."""
    two, three = (Recorder(module, run, torch.ones(count, 4)).outputs[site] for count in (2, 3))
    assert images == 2
    return answer_of(site, two, three)


def test_each_call_of_a_module_is_seen_in_its_order_with_the_calls_around_it():
    seen = Recorder(Twice(), run, torch.ones(2, 4))
    assert seen.order == [("layer", 0), ("block", 0), ("layer", 1), ("block.1", 0)]
    assert list(seen.above(("layer", 1))) == [("block", 0)]
    assert list(seen.above(("block", 0))) == []
    assert torch.equal(seen.outputs["block", 0], seen.features)


def test_no_hook_stays_when_the_network_fails():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 5))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Recorder(module, run, torch.ones(2, 4))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_tensors_are_found_in_tuples_and_dictionaries():
    one, two, three = torch.ones(1), torch.ones(2), torch.ones(3)
    assert [len(found) for found in tensors_of({"a": (one, 7), "b": [two, {"c": three}]})] == [1, 2, 3]


def test_an_answer_knows_which_dimension_counts_images_and_how_many_entries_each_has():
    def given(images):
        return {
            "rows": torch.ones(images, 5),
            "later": torch.ones(4, images),
            "windows": torch.ones(6 * images, 3),
            "constant": torch.ones(7),
            "size": (8, "text"),
        }

    answer = answer_of(("part", 0), given(2), given(3))
    assert [answer.shape(at, 10) for at in answer.tensors] == [[10, 5], [4, 10], [60, 3], [7]]
    assert [answer.batch[at] for at in answer.tensors] == [(0, 1), (1, 1), (0, 6), None]
    assert all(answer.leaves[at].is_meta for at in answer.tensors)


@pytest.mark.parametrize(
    ("two", "three", "said"),
    [
        (2, 3, "part gives 2 for two images and 3 for three"),
        (torch.ones(2, 2), torch.ones(3, 3), r"part gives \(2, 2\) for two images and \(3, 3\) for three"),
        (torch.ones(5, 1), torch.ones(6, 1), r"part gives \(5, 1\) for two images and \(6, 1\) for three"),
        (torch.ones(4, 1), torch.ones(5, 1), r"part gives \(4, 1\) for two images and \(5, 1\) for three"),
    ],
)
def test_what_does_not_grow_with_the_images_is_refused(two, three, said):
    with pytest.raises(CutError, match=said):
        answer_of(("part", 0), two, three)


def test_a_structure_that_depends_on_the_images_is_refused():
    with pytest.raises(CutError, match="part gives another structure for another number of images"):
        answer_of(("part", 0), [torch.ones(4)] * 2, [torch.ones(4)] * 3)


def test_a_number_of_dimensions_that_depends_on_the_images_is_refused():
    with pytest.raises(CutError):
        answer_of(("part", 0), torch.ones(2, 4), torch.ones(1, 3, 4))


def test_a_module_answers_with_what_it_is_given_in_the_calls_that_are_asked_for():
    module = Twice()
    images, given = torch.randn(5, 4), torch.randn(5, 4)
    with torch.no_grad(), Stubs(module, {("layer", 0): answered(module, ("layer", 0))}) as stubs:
        for _ in range(2):  # the calls are counted anew in each pass
            stubs.begin(5, CPU, {("layer", 0): [given]})
            found = module(images)
            assert torch.equal(found, module.block[0](given).relu())
    assert not torch.equal(module(images), found)


def test_a_tensor_that_nobody_gave_is_a_blank_that_takes_no_memory():
    module = nn.Sequential(nn.Linear(4, 4))
    answers = {("0", 0): answered(module, ("0", 0))}
    with Stubs(module, answers) as stubs:
        stubs.begin(1000, CPU, {})
        found = module(torch.ones(1000, 4))
    assert tuple(found.shape) == (1000, 4)
    assert found.untyped_storage().nbytes() == 4
    assert not found.any()


def test_an_answer_keeps_the_structure_and_the_values_that_are_no_tensors():
    class Pair(nn.Module):
        def forward(self, images):
            return {"map": images, "size": (2, 2), "flat": images.flatten(1)}

    module = nn.Sequential(Pair())
    site = ("0", 0)
    two, three = (Recorder(module, run, torch.ones(count, 2, 2)).outputs[site] for count in (2, 3))
    given = torch.full((4, 2, 2), 3.0)
    with Stubs(module, {site: answer_of(site, two, three)}) as stubs:
        stubs.begin(4, CPU, {site: [given, None]})
        found = module(torch.ones(4, 2, 2))
    assert found["map"] is given
    assert found["size"] == (2, 2)
    assert tuple(found["flat"].shape) == (4, 4)


def test_modules_compute_again_after_an_error_in_the_suffix():
    module = Twice()
    before = module(torch.ones(2, 4))
    answers = {("layer", 0): answered(module, ("layer", 0))}
    with pytest.raises(ZeroDivisionError), Stubs(module, answers):
        raise ZeroDivisionError
    assert torch.equal(module(torch.ones(2, 4)), before)
    assert not any("forward" in vars(part) for part in module.modules())


def test_a_forward_that_somebody_put_on_an_instance_is_put_back():
    module = nn.Sequential(nn.Linear(4, 4))
    plain = module[0].forward
    module[0].forward = lambda images: 2 * plain(images)
    before = module(torch.ones(2, 4))
    with Stubs(module, {("0", 0): answered(module, ("0", 0))}):
        pass
    assert torch.equal(module(torch.ones(2, 4)), before)


def test_every_mode_is_put_back_after_an_error():
    module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    module[1].eval()
    for mode in ("eval", "training"):
        with contextlib.suppress(ZeroDivisionError), modes_kept(module):
            go(module, mode)
            assert all(part.training == (mode == "training") for part in module.modules())
            raise ZeroDivisionError
        assert [part.training for part in module.modules()] == [True, True, False, False]


def test_gradients_end_as_they_were_required_before():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].weight.requires_grad_(False)
    with contextlib.suppress(ZeroDivisionError), gradients_of(module, frozenset({"0.weight"})):
        assert [parameter.requires_grad for parameter in module.parameters()] == [True, False, False, False]
        raise ZeroDivisionError
    assert [parameter.requires_grad for parameter in module.parameters()] == [False, True, True, True]


def test_an_answer_is_made_without_keeping_the_tensors_it_was_read_from():
    answer = answered(Twice(), ("layer", 0))
    assert isinstance(answer, Answer)
    assert not any(answer.leaves[at].requires_grad for at in answer.tensors)
