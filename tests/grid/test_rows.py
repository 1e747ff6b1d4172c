import json
import math

import pytest

from zoo.errors import RunError
from zoo.grid.rows import Cell, Row, RowFile, spread, with_seeds

CELL = Cell(task="tasks:one", parameters={"x": 1, "y": [1, 2]}, seed=3, context={"torch": "2"})


def row(cell=CELL, status="ok", result=None, **fields):
    return Row(
        key=cell.key,
        task=cell.task,
        parameters=cell.parameters,
        seed=cell.seed,
        context=cell.context,
        status=status,
        result=result,
        **fields,
    )


@pytest.mark.parametrize(
    "other",
    [
        Cell(task="tasks:two", parameters=CELL.parameters, seed=3, context=CELL.context),
        Cell(task=CELL.task, parameters={"x": 2, "y": [1, 2]}, seed=3, context=CELL.context),
        Cell(task=CELL.task, parameters=CELL.parameters, seed=4, context=CELL.context),
        Cell(task=CELL.task, parameters=CELL.parameters, seed=3, context={"torch": "3"}),
    ],
)
def test_the_key_holds_everything_that_the_outcome_depends_on(other):
    assert other.key != CELL.key


def test_the_key_does_not_depend_on_the_order_of_the_parameters():
    assert Cell(task=CELL.task, parameters={"y": [1, 2], "x": 1}, seed=3, context=CELL.context).key == CELL.key


def test_a_parameter_that_is_no_json_value_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        _ = Cell(task="tasks:one", parameters={"x": math.nan}).key


def test_each_cell_stands_once_for_each_seed():
    assert [(cell.parameters["x"], cell.seed) for cell in with_seeds([CELL, CELL], (0, 1))] == [
        (1, 0),
        (1, 1),
        (1, 0),
        (1, 1),
    ]


def test_rows_come_back_as_they_were_written_and_the_last_of_a_key_counts(tmp_path):
    with RowFile(tmp_path / "deep" / "rows.jsonl") as file:
        file.append(row(status="error", message="first"))
        file.append(row(result={"value": 1.5, "name": "é"}, seconds=2.0))
    assert RowFile(tmp_path / "deep" / "rows.jsonl").read() == {
        CELL.key: row(result={"value": 1.5, "name": "é"}, seconds=2.0)
    }


def test_a_torn_line_is_passed_over_and_the_next_row_stands_on_its_own(tmp_path):
    path = tmp_path / "rows.jsonl"
    other = Cell(task="tasks:two", parameters={})
    with RowFile(path) as file:
        file.append(row())
    path.write_bytes(path.read_bytes() + path.read_bytes()[:-20])
    with RowFile(path) as file:
        assert file.read().keys() == {CELL.key}
        file.append(row(other))
    assert RowFile(path).read().keys() == {CELL.key, other.key}


def test_lines_of_another_format_are_passed_over(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"key": "a"}\n[1]\n"text"\n' + json.dumps({"unknown": 1}) + "\n", encoding="utf-8")
    assert RowFile(path).read() == {}


def test_two_writers_of_one_file_are_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    with RowFile(path), pytest.raises(RunError, match=r"another process is writing to .*rows\.jsonl"), RowFile(path):
        pass
    with RowFile(path):
        pass  # free again


def test_the_spread_counts_failures_and_is_undefined_where_there_is_nothing_to_spread():
    rows = [
        row(Cell(task="t", parameters={"lr": lr}, seed=seed), status, result)
        for lr, seed, status, result in [
            (1, 0, "ok", 1.0),
            (1, 1, "ok", 3.0),
            (1, 2, "timeout", None),
            (2, 0, "ok", 5.0),
            (3, 0, "died", None),
        ]
    ]
    found = spread(rows, lambda one: one.result, by=["lr"])
    assert (found[(1,)].count, found[(1,)].failed) == (2, 1)
    assert (found[(1,)].mean, found[(1,)].median, found[(1,)].std) == (2.0, 2.0, pytest.approx(math.sqrt(2)))
    assert (found[(2,)].mean, math.isnan(found[(2,)].std)) == (5.0, True)
    assert (found[(3,)].count, math.isnan(found[(3,)].mean)) == (0, True)
