"""Whatever the user's environment, terminal, paths and home are: a command works as ever, or refuses in one line."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from sweep.cli.commands import cli
from sweep.cli.invocation import invoke
from sweep.plan import make_plan
from sweep.stages import index_of_study
from sweep.storage.checksums import STUDY, write_files
from sweep.storage.index import INDEX
from sweep.storage.store import Store
from tests.report.simulated import simulate
from tests.studies import SWEEP, SmallStudy, write_small_study

ODD = "a b [1] {2} 50%20 #?*&'\"é"
"""A folder's name with everything that means something to a pattern, an address, a database or a shell."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of an odd name with a study that is stored whole under `results`; tests read only."""
    folder = tmp_path_factory.mktemp("surroundings") / ODD
    folder.mkdir()
    study = write_small_study(folder)
    manifest = folder / "faces" / "manifest.csv"
    text = manifest.read_text(encoding="utf-8")
    for image in (folder / "faces").glob("p00*"):
        image.rename(image.with_name(image.name.replace("p00", "zoë [0]")))
    manifest.write_text(text.replace("p00", "zoë [0]"), encoding="utf-8")
    plan = make_plan(study.path)
    store = Store(f"{folder}/results/small")
    simulate(plan, store)
    write_files(store, {STUDY: study.path.read_bytes(), INDEX: index_of_study(plan)})
    return folder


def command(
    *arguments: str, cwd: Path, environment: dict[str, str] | None = None, **more: object
) -> "subprocess.CompletedProcess[bytes]":
    """The real command in a process of its own."""
    given = {name: value for name, value in {**os.environ, **(environment or {})}.items() if value != "-"}
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [SWEEP, *arguments],
        cwd=cwd,
        env=given,
        **{"capture_output": True, "timeout": 200, "check": False, **more},
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with settings for every library that reads any there."""
    home = tmp_path_factory.mktemp("home")
    for name, content in {
        ".keras/keras.json": json.dumps(
            {"floatx": "float16", "backend": "torch", "image_data_format": "channels_first", "epsilon": 1.0}
        ),
        ".config/matplotlib/matplotlibrc": "figure.facecolor: black\nfont.size: 30\nbackend: nonsense\n",
        ".duckdbrc": "SET memory_limit = '1MB';",
        ".aws/config": "[profile",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(content)
    return home


def hostile(home: Path) -> dict[str, str]:
    """Settings of other programs, all at once; '-' takes a variable away."""
    return {
        "HOME": str(home),
        "KERAS_BACKEND": "torch",
        "TF_USE_LEGACY_KERAS": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "MPLBACKEND": "nonsense",
        "MPLCONFIGDIR": "-",
        "PYTHONHASHSEED": "7",
        "OMP_NUM_THREADS": "many",
        "MLFLOW_RUN_ID": "0123",
        "MLFLOW_EXPERIMENT_ID": "77",
        "MLFLOW_TRACKING_URI": "",
        "MLFLOW_EXPERIMENT_NAME": "other",
        "RAY_NAMESPACE": "other",
        "TUNE_RESULT_DIR": "/x",
        "AWS_PROFILE": "nobody",
        "RAY_AIR_LOCAL_CACHE_DIR": "/y",
        "NO_COLOR": "1",
        "COLUMNS": "0",
        "LINES": "x",
        "TERM": "dumb",
        "LC_ALL": "C",
        "PYTHONIOENCODING": "ascii",
        "PYTHONWARNINGS": "error",
        "XDG_CACHE_HOME": "/dev/null/x",
        "RAY_ADDRESS": "http://127.0.0.1:8265",
    }


READING = ["status study.yaml", "plan study.yaml --no-time", "query auc --format csv", "query rank2"]


@pytest.fixture(scope="module")
def usual(folder: Path) -> dict[str, bytes]:
    """What the commands say in usual surroundings, on a terminal as wide as they need."""
    said = {}
    for line in READING:
        done = command(*line.split(), cwd=folder)
        assert (done.returncode, done.stderr) == (0, b"")
        said[line] = done.stdout
    return said


@pytest.mark.parametrize("line", READING)
def test_settings_of_other_programs_change_nothing(
    folder: Path, home: Path, usual: dict[str, bytes], line: str
) -> None:
    done = command(*line.split(), cwd=folder, environment=hostile(home), umask=0o077)
    assert (done.returncode, done.stderr) == (0, b"")
    expected = usual[line]
    if line == "query rank2":  # text for a terminal, which can show no more than ASCII here
        assert "zoë" in expected.decode()
        expected = expected.decode().encode("ascii", "backslashreplace")
    assert done.stdout == expected


def test_figures_are_the_same_whatever_matplotlib_is_set_to(folder: Path, home: Path) -> None:
    contents = []
    for environment in ({"HOME": "/dev/null", "MPLCONFIGDIR": "-"}, hostile(home)):
        done = command("report", "study.yaml", cwd=folder, environment=environment)
        assert (done.returncode, done.stderr) == (0, b"")
        figures = folder / "results" / "small" / "figures"
        contents.append({path.name: path.read_bytes() for path in figures.iterdir()})
    assert contents[0]
    assert contents[1] == contents[0]


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only the superuser can become a user whom the system does not list"
)
def test_a_user_whom_the_system_does_not_list_gets_a_home() -> None:
    code = """
import os
from sweep.cli.surroundings import settle
del os.environ["HOME"]
os.setuid(23456)
settle()
print(os.environ["HOME"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("/\n", "")


def test_few_open_files(folder: Path, usual: dict[str, bytes]) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 1000))

    done = command("query", "auc", "--format", "csv", cwd=folder, preexec_fn=few)
    assert (done.returncode, done.stdout, done.stderr) == (0, usual["query auc --format csv"], b"")


def test_numbers_are_never_cut(folder: Path, usual: dict[str, bytes]) -> None:
    done = command("status", "study.yaml", cwd=folder, environment={"COLUMNS": "9"})
    assert done.stdout == usual["status study.yaml"]


@pytest.mark.parametrize("line", ["status study.yaml", "query auc --format parquet"])
def test_output_that_is_closed(folder: Path, line: str) -> None:
    closed = ["sh", "-c", 'exec "$@" <&- >&-', "sh", str(SWEEP), *line.split()]
    done = subprocess.run(closed, cwd=folder, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("line", ["status study.yaml", "query auc --format csv"])
def test_output_that_cannot_be_written(folder: Path, line: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = command(*line.split(), cwd=folder, stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 1
    assert done.stderr == b"sweep: cannot write to standard output: no space left on device\n"


def test_ctrl_c_while_libraries_are_imported_and_the_study_is_read(folder: Path) -> None:
    words, ended, seconds = ["plan", "study.yaml", "--no-time"], 0, 0.1
    while seconds < 60:  # until the command is quicker
        with subprocess.Popen(
            [SWEEP, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            errors = process.communicate()[1]
        if process.returncode == 0:
            break
        stopped = (process.returncode, errors) == (130, b"sweep: stopped\n")
        assert (
            stopped or not ended
        )  # at first Python itself is still starting, and answers with words of its own
        ended, seconds = ended + stopped, 1.6 * seconds
    assert ended > 1


def a_folder(folder: Path) -> str:
    (folder / "x.yaml").mkdir()
    return "status x.yaml"


def a_pipe(folder: Path) -> str:
    os.mkfifo(folder / "x.yaml")
    return "status x.yaml"


def another_encoding(folder: Path) -> str:
    (folder / "x.yaml").write_bytes("name: café".encode("latin-1"))
    return "status x.yaml"


def two_bytes_a_character(folder: Path) -> str:
    (folder / "x.yaml").write_text((folder / "study.yaml").read_text(), encoding="utf-16")
    return "status x.yaml"


def links_in_a_circle(folder: Path) -> str:
    (folder / "x.yaml").symlink_to("x.yaml")
    return "status x.yaml"


def a_file_as_root(folder: Path) -> str:
    (folder / "results").touch()
    return "status study.yaml"


def a_closed_root(folder: Path) -> str:
    return "run study.yaml --results /proc/1/results"


def renamed(study: SmallStudy, name: str) -> None:
    study.path.write_text(study.path.read_text().replace("name: small", f"name: {name}"))


def a_long_name(folder: Path) -> str:
    renamed(SmallStudy(folder / "study.yaml", {}), "n" * 256)
    return "status study.yaml"


def a_name_that_is_taken(folder: Path) -> str:
    renamed(SmallStudy(folder / "study.yaml", {}), "mlflow.db")
    return "status study.yaml"


def a_long_level(folder: Path) -> str:
    text = (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(text.replace("    first:", f"    {'f' * 110}:"))
    return "status study.yaml"


def a_long_file_of_weights(folder: Path) -> str:
    text = (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(text.replace("npz:first.npz", f"npz:{'f' * 300}.npz"))
    return "status study.yaml"


def a_long_file_of_an_image(folder: Path) -> str:
    with (folder / "faces" / "manifest.csv").open("a") as file:
        file.write(f"{'f' * 300}.png,p01,male,0,dark\n")
    return "status study.yaml"


def a_password_for_weights(folder: Path) -> str:
    text = (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(
        text.replace("npz:first.npz", "vggface:https://me:geheim@127.0.0.1:9/w.h5")
    )
    return "status study.yaml"


def says(line: str) -> Callable[[Path], str]:
    return lambda folder: line


REFUSED: list[tuple[Callable[[Path], str], str]] = [
    (a_folder, "x.yaml: is a folder; name a study file"),
    (a_pipe, "x.yaml: is no regular file; name a study file"),
    (another_encoding, "x.yaml: "),
    (two_bytes_a_character, "x.yaml: "),
    (links_in_a_circle, "x.yaml: "),
    (says("status study.yaml/x"), "study.yaml/x: "),
    (says(f"status {'x' * 300}.yaml"), "name too long"),
    (says("status $NOT_SET/study.yaml"), "the variable NOT_SET is not set"),
    (says("status nowhere.yaml"), "nowhere.yaml: no such study file"),
    (a_file_as_root, "is a file, not a folder"),
    (a_closed_root, "/proc/1 cannot be written to"),
    (says(f"status study.yaml --results {'x' * 300}"), "file name too long"),
    (says("query auc --results s3://id:geheim@bucket/x"), "s3://***@bucket/x: an address with a password"),
    (says("stop study.yaml --results s3:/bucket"), "two slashes"),
    (a_long_name, "study.yaml: name: has 256 characters, and a folder's name at most 255; shorten it"),
    (a_name_that_is_taken, "study.yaml: name: 'mlflow.db' lies beside the studies' folders already"),
    (a_long_level, f"study.yaml: factors.pretraining: the level '{'f' * 110}' makes names of files"),
    (a_long_file_of_weights, "study.yaml: factors.pretraining.first: no weight file"),
    (a_long_file_of_an_image, "manifest.csv: row 32: path: no file 'fff"),
    (a_password_for_weights, "holds a password, and the study file is stored with the results"),
    (
        says("run study.yaml --address http://127.0.0.1:8265"),
        "the address of Ray's dashboard and jobs; use `sweep submit`, or name",
    ),
    (says("plan study.yaml --address ray://h:1"), "Ray Client is not supported"),
    (says("run study.yaml --address head"), "--address head: write it as HOST:PORT"),
    (says("run study.yaml --address head:65536"), "--address head:65536: write it as HOST:PORT"),
    (says("run study.yaml --address :6379"), "--address :6379: write it as HOST:PORT"),
    (
        says("run study.yaml --address 127.0.0.1:9"),
        "--address 127.0.0.1:9: no Ray cluster answers at 127.0.0.1:9",
    ),
    (says("run study.yaml --refresh maps"), "'maps' is not one of"),
    (says("pan study.yaml"), "No such command 'pan'. Did you mean 'plan'? (see sweep --help)"),
    (says("plan"), "Missing argument 'STUDY.yaml'. (see sweep plan --help)"),
    (
        says("data show bundled:heads --sheet nowhere/sheet.png"),
        "--sheet nowhere/sheet.png: cannot be written",
    ),
]


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NOT_SET", raising=False)


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize(("make", "expected"), REFUSED)
def test_what_cannot_work_is_refused_in_a_line(
    small_study: SmallStudy,
    make: Callable[[Path], str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = small_study.path.parent
    words = make(folder).split()
    before = {str(path) for path in folder.rglob("*")}
    assert invoke(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sweep: ")
    assert expected in line
    assert "geheim" not in line
    assert {str(path) for path in folder.rglob("*")} == before


def test_a_study_file_that_begins_with_a_byte_order_mark(small_study: SmallStudy) -> None:
    small_study.path.write_bytes(b"\xef\xbb\xbf" + small_study.path.read_bytes())
    assert make_plan(small_study.path).study.name == "small"


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, one in group.commands.items():
        if isinstance(one, click.Group):
            yield from leaves(one, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("words", list(leaves(cli)))
def test_every_subcommand_has_help_with_an_example(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke([*words, "--help"]) == 0
    described, _, options = capsys.readouterr().out.partition("Options:")
    assert f"sweep {' '.join(words)} " in described.split("\n\n", 1)[1]
    assert "--help" in options
