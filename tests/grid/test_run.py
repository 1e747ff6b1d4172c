import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from zoo.errors import OptionError
from zoo.grid.rows import Cell, RowFile, with_seeds
from zoo.grid.run import failed, run_grid
from zoo.grid.worker import Limits


def compute(tasks, name, tmp_path, limits=None, **parameters):
    (row,) = run_grid([Cell(task=f"{tasks}:{name}", parameters=parameters)], tmp_path / "rows.jsonl", limits=limits)
    return row


def test_every_cell_is_computed_once_and_never_again(tasks, tmp_path):
    log = tmp_path / "log"
    cells = [Cell(task=f"{tasks}:double", parameters={"x": x, "log": str(log)}) for x in (1, 2, 3, 2)]
    seen, news = [], []
    first = run_grid(cells, tmp_path / "rows.jsonl", jobs=2, progress=lambda *at: seen.append(at), each=news.append)
    assert [row.result["value"] for row in first] == [2, 4, 6, 4]
    assert (sorted(seen), len(news), log.read_text()) == ([(1, 3), (2, 3), (3, 3)], 3, "xxx")
    assert run_grid(cells, tmp_path / "rows.jsonl", each=news.append) == first
    assert (len(news), log.read_text()) == (3, "xxx")


def test_a_row_says_what_it_took(tasks, tmp_path):
    row = compute(tasks, "slow", tmp_path, x=0.3)
    assert (row.status, row.result, row.message, row.output) == ("ok", 0.3, "", "")
    assert 0.3 <= row.seconds < 30
    assert row.peak_mib > 1
    assert row.finished.endswith("+00:00")


@pytest.mark.parametrize(
    ("task", "status", "message", "output"),
    [
        ("fail", "error", "ValueError: no 7 please", "what the task wrote"),
        ("leave", "error", "SystemExit: 3", ""),
        ("die", "died", "exit code 4 and without an answer", "last words"),
        ("killed", "died", "killed by SIGKILL", ""),
        ("not_json", "error", "not JSON compliant", ""),
        ("absent", "error", "has no attribute 'absent'", ""),
    ],
)
def test_a_failure_is_a_row(tasks, tmp_path, task, status, message, output):
    row = compute(tasks, task, tmp_path, x=7)
    assert row.status == status
    assert message in row.message
    assert output in row.output
    assert row.result is None


def test_what_takes_too_long_is_stopped_with_everything_that_it_started(tasks, tmp_path):
    log = tmp_path / "pid"
    row = compute(tasks, "hang", tmp_path, Limits(seconds=2.0), log=str(log))
    assert (row.status, row.message) == ("timeout", "stopped after 2 s")
    assert _ends(int(log.read_text()))


def _ends(pid):
    """Whether the process ends within ten seconds."""
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


def test_what_a_task_leaves_running_is_stopped_when_it_is_done(tasks, tmp_path):
    log = tmp_path / "pid"
    assert compute(tasks, "leave_child", tmp_path, log=str(log)).result == "done"
    assert _ends(int(log.read_text()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
def test_a_killed_process_whose_child_lives_on_holds_nothing_up(tasks, tmp_path):
    row = compute(tasks, "killed_with_child", tmp_path, Limits(seconds=30.0))
    assert (row.status, row.message) == ("died", "killed by SIGKILL")
    assert row.seconds < 20


@pytest.mark.parametrize("name", ["odd_text", "odd_error"])
def test_text_that_no_file_or_line_can_hold_as_it_is_is_kept(tasks, tmp_path, name):
    row = compute(tasks, name, tmp_path)
    assert list(RowFile(tmp_path / "rows.jsonl").read().values()) == [row]
    if name == "odd_text":
        assert row.result == {"text": "a\u2028b\x85c", "name": "caf\udce9.jpg"}
    else:
        assert row.message == "ValueError: caf\udce9.jpg"


def test_what_takes_too_much_memory_is_stopped(tasks, tmp_path):
    row = compute(tasks, "fill", tmp_path, Limits(mib=400.0))
    assert row.status == "memory"
    assert "of 400" in row.message
    assert row.peak_mib > 400


def test_failures_are_computed_anew_only_where_that_is_asked_for(tasks, tmp_path):
    path, log = tmp_path / "rows.jsonl", tmp_path / "log"
    good = Cell(task=f"{tasks}:double", parameters={"x": 1, "log": str(log)})
    bad = Cell(task=f"{tasks}:double", parameters={"x": 1, "log": str(tmp_path / "absent" / "log")})
    assert [row.status for row in run_grid([good, bad], path)] == ["ok", "error"]
    (tmp_path / "absent").mkdir()
    assert [row.status for row in run_grid([good, bad], path)] == ["ok", "error"]
    assert [row.status for row in run_grid([good, bad], path, retry=failed)] == ["ok", "ok"]
    assert log.read_text() == "x"


def test_the_seed_is_that_of_the_global_generators(tasks, tmp_path):
    cells = with_seeds([Cell(task=f"{tasks}:draw", parameters={})], (0, 1))
    first = [row.result for row in run_grid(cells, tmp_path / "a.jsonl")]
    again = [row.result for row in run_grid(cells, tmp_path / "b.jsonl")]
    assert first[0][0] == again[0][0] != first[1][0]


def test_no_job_at_all_is_refused(tmp_path):
    with pytest.raises(OptionError, match="at least one job at a time, not 0"):
        run_grid([], tmp_path / "rows.jsonl", jobs=0)


def counting(tasks, *ends):
    return [Cell(task=f"{tasks}:count", parameters={"x": x, "ends": each}) for x, each in enumerate(ends)]


def test_cells_that_go_together_share_a_process(tasks, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = run_grid(counting(tasks, "", "", "", ""), path, together=lambda cell: cell.parameters["x"] % 2)
    assert [row.result[1] for row in rows] == [1, 1, 2, 2]
    assert rows[0].result[0] == rows[2].result[0] != rows[1].result[0] == rows[3].result[0]
    assert run_grid(counting(tasks, "", "", "", ""), path, together=lambda cell: 0) == rows


def test_what_ends_a_shared_process_costs_the_others_nothing(tasks, tmp_path):
    cells = counting(tasks, "", "raises", "", "dies", "", "fills", "", "hangs", "")
    rows = run_grid(cells, tmp_path / "rows.jsonl", together=lambda cell: 0, limits=Limits(seconds=2.0))
    said = ["ok", "error", "ok", "died", "ok", "memory", "ok", "timeout", "ok"]
    assert [row.status for row in rows] == said
    assert [row.result[1] for row in rows if row.result] == [1, 3, 1, 1, 1]
    assert [row.output.split("\n")[0] for row in rows if row.status != "ok"] == ["cell 1", "cell 3", "cell 5", "cell 7"]
    assert "cell 0" not in rows[1].output


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from zoo.grid.rows import Cell
from zoo.grid.run import failed, run_grid
cells = [Cell(task="grid_tasks:slow", parameters={"x": x}) for x in (0.01, 50, 60)]
run_grid(cells, Path(sys.argv[2]), jobs=2, each=lambda row: print("done", flush=True))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals on Windows")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_who_stops_a_grid_keeps_what_is_done_and_stops_what_runs(tasks, tmp_path, ending):
    """The script has no `if __name__ == "__main__"`: the grid's processes must not run it again."""
    script, path = tmp_path / "script.py", tmp_path / "rows.jsonl"
    script.write_text(SCRIPT, encoding="utf-8")
    words = [sys.executable, str(script), str(tmp_path / "tasks"), str(path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline() == "done\n"
    if ending == signal.SIGINT:
        os.killpg(process.pid, ending)  # as a terminal does it: to every process
    else:
        process.kill()  # it alone, and without a chance to stop the others
    _, errors = process.communicate(timeout=20)
    assert ("KeyboardInterrupt" in errors) == (ending == signal.SIGINT)
    assert [row.result for row in RowFile(Path(path)).read().values()] == [0.01]
    assert _vanishes(process.pid)


def _vanishes(group):
    """Whether no process of the group is left within ten seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
