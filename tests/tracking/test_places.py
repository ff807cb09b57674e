"""MLflow's database and files lie under the results, whatever the folders are called."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.studies import SmallStudy

# In a process of its own, as MLflow keeps a connection for each database.
CODE = """
import sys
from pathlib import Path
from sweep.plan import make_plan
from sweep.tracking import Tracker
tracker = Tracker(make_plan(Path(sys.argv[1])), sys.argv[2])
tracker.close("FINISHED")
print(tracker.problems())
"""


@pytest.mark.parametrize("name", ["a b [1] {2} 50%20 #?*&'\"é :x"])
def test_a_folder_of_an_odd_name(small_study: SmallStudy, name: str) -> None:
    folder = small_study.path.parent / name
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(small_study.path), "results"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout == "[]\n", done.stderr
    assert (folder / "results" / "mlflow.db").is_file()
    # MLflow would have a folder of its own here.
    assert [path.name for path in folder.iterdir()] == ["results"]
    assert not list(Path(small_study.path.parent).glob("*.db"))
