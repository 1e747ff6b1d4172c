"""What crosses a boundary is kept as one tensor a row, and comes back as it was."""

from __future__ import annotations

import pytest
import torch

from zoo.features.packing import Packing


def tensors(shapes, rows=3, layout=torch.contiguous_format):
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn((rows, *shape), generator=generator) for shape in shapes]
    return tuple(each.to(memory_format=layout) if each.ndim == 4 else each for each in made)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "shapes", [((7,),), ((4, 6),), ((2, 3, 5),), ((2, 3, 5), (4, 6), (7,), (3, 2, 2)), ((2, 3, 4, 5),)]
)
def test_what_crosses_comes_back_as_it_was(shapes, layout):
    given = tensors(shapes, layout=layout)
    packing = Packing.of(given)
    rows = packing.pack(given)
    assert tuple(rows.shape) == (3, *packing.shape)
    assert rows.is_contiguous()
    for found, wanted in zip(packing.unpack(rows), given, strict=True):
        assert torch.equal(found, wanted)


def test_a_map_comes_back_in_the_layout_in_which_the_network_computes():
    given = tensors(((2, 3, 5),), layout=torch.channels_last)
    packing = Packing.of(given)
    (found,) = packing.unpack(packing.pack(given))
    assert packing.shape == (3, 5, 2)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_what_has_its_channels_last_already_may_be_viewed_as_the_network_views_it():
    given = tensors(((5, 5, 8),))
    packing = Packing.of(given)
    (found,) = packing.unpack(packing.pack(given))
    assert tuple(found.view(3, 25, 8).shape) == (3, 25, 8)


def test_rows_come_back_without_a_copy():
    given = tensors(((2, 3, 5),), layout=torch.channels_last)
    packing = Packing.of(given)
    rows = packing.pack(given)
    (found,) = packing.unpack(rows)
    assert found.untyped_storage().data_ptr() == rows.untyped_storage().data_ptr()


def test_rows_of_any_choice_come_back_as_those_rows():
    given = tensors(((2, 3, 5), (4,)), rows=6, layout=torch.channels_last)
    packing, chosen = Packing.of(given), torch.tensor([4, 0, 4])
    for found, wanted in zip(packing.unpack(packing.pack(given)[chosen]), given, strict=True):
        assert torch.equal(found, wanted[chosen])


def test_a_tensor_in_another_layout_is_kept_in_that_of_the_first():
    given = tensors(((2, 3, 5), (4,)), layout=torch.channels_last)
    packing = Packing.of(given)
    again = (given[0].contiguous(), given[1])
    assert torch.equal(packing.pack(again), packing.pack(given))
