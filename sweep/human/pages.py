"""The page of an experiment: a folder of static files that works from a web server, as a file, or behind the collector."""

import hashlib
import html
import io
import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from sweep.arrays import Array
from sweep.errors import InputError
from sweep.keys import key_of_array
from sweep.storage.schemas import SCHEMAS

TEMPLATE = Path(__file__).parent / "page"
"""Files of the page that are the same for every experiment."""
SCRIPTS = (
    "memory.js",
    "tabs.js",
    "screens.js",
    "choice.js",
    "course.js",
    "exits.js",
    "queue.js",
    "experiment.js",
)
SAME = ("style.css", *SCRIPTS, "vendor/jspsych.js", "vendor/plugin-preload.js", "vendor/NOTICE")
"""Files that are copied as they are."""
TRIALS, TEXTS, EXIT, CHECKSUMS = "trials.js", "texts.js", "exit.js", "page.json"
"""The trials; the words; where answers go; and the SHA-256 of every file."""
COLLECTOR_EXIT = b'window.EXIT = "collector";\n'
"""What the collector serves as `exit.js`."""
FILE_EXIT = b'window.EXIT = "file";\n'
_GLOBAL = {TRIALS: "EXPERIMENT", TEXTS: "TEXTS"}
"""Name under which the page finds the content of a file."""


def page_files(
    trials: pa.Table, pictures: Mapping[str, Array], contact: str, texts: Mapping[str, Any]
) -> dict[str, bytes]:
    """Returns the files of a page by their path.

    `trials` are the rows of the table `human_trials` of one experiment, `pictures` the uint8 RGB pixels by image_id,
    `contact` whom an observer may write to, `texts` the words by language (`page_texts`). Pictures are named by their
    content, so that a name tells nobody who is shown. Raises InputError where a picture is missing.
    """
    trials = trials.select(SCHEMAS["human_trials"].names)
    (experiment_id,) = set(trials["experiment_id"].to_pylist())
    needed = sorted(
        set().union(*(trials[name].to_pylist() for name in ("target_image", "image_a", "image_b")))
    )
    if missing := [image_id for image_id in needed if image_id not in pictures]:
        raise InputError(
            f"experiment {experiment_id}: the study has no image '{missing[0]}' ({len(missing)} such in all); "
            "name the study file that the trials were made from"
        )
    names = {image_id: f"images/{key_of_array(pictures[image_id])}.png" for image_id in needed}
    experiment = {"experiment_id": experiment_id, "contact": contact, "lists": _lists(trials, names)}
    files = {name: (TEMPLATE / name).read_bytes() for name in SAME}
    files |= {names[image_id]: png(pictures[image_id]) for image_id in needed}
    files["index.html"] = _document(texts)
    files[TRIALS] = _script(TRIALS, experiment)
    files[TEXTS] = _script(TEXTS, texts)
    files[EXIT] = FILE_EXIT
    files[CHECKSUMS] = json.dumps(
        {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}, indent=1
    ).encode()
    return files


def _lists(trials: pa.Table, names: Mapping[str, str]) -> list[list[dict[str, Any]]]:
    """What the page knows of each list's trials: nothing of conditions, votes, or which answer is expected."""
    lists: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(trials.to_pylist(), key=lambda row: (row["list"], row["position"])):
        shown = {"a": names[row["image_a"]], "b": names[row["image_b"]]}
        other = "b" if row["left"] == "a" else "a"
        lists.setdefault(row["list"], []).append(
            {
                "trial_id": row["trial_id"],
                "position": row["position"],
                "block": row["block"],
                "target": names[row["target_image"]],
                "left": shown[row["left"]],
                "right": shown[other],
                "left_is": row["left"],
            }
        )
    return [lists[number] for number in sorted(lists)]


def png(pixels: Array) -> bytes:
    """`pixels` as PNG, read back to see that they are whole: a browser shows a truncated file without complaint."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        if not np.array_equal(np.asarray(image), pixels):
            raise ValueError("a picture is not what was written")
    return buffer.getvalue()


def _script(name: str, content: object) -> bytes:
    """A script that sets a global. JSON is fetched by no page that was opened as a file; a script is."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return f"window.{_GLOBAL[name]} = {text};\n".encode()


def _document(texts: Mapping[str, Any]) -> bytes:
    """`index.html`, with what it says before any script runs."""
    asks = "\n".join(
        f'<p lang="{html.escape(language)}">{html.escape(words["noscript"])}</p>'
        for language, words in texts.items()
    )
    title = html.escape(next(iter(texts.values()))["title"])
    document = (TEMPLATE / "index.html").read_text(encoding="utf-8")
    return document.replace("{{title}}", title).replace("{{noscript}}", asks).encode()


def page_texts(path: Path | None = None) -> dict[str, Any]:
    """The words of the page by language, with those of a JSON file of the user in place of or beside them.

    A language that we have needs only the texts that differ; a further one needs all. Raises InputError with every problem.
    """
    known: dict[str, Any] = json.loads((TEMPLATE / "texts.json").read_text(encoding="utf-8"))
    if path is None:
        return known
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise InputError(
            f"{path}: is no JSON in UTF-8; see sweep/human/page/texts.json for its form"
        ) from None
    if not isinstance(given, dict) or not all(isinstance(words, dict) for words in given.values()):
        raise InputError(
            f'{path}: must be an object with an object of texts for each language, as in {{"en": {{…}}}}'
        )
    pattern = known["en"]
    problems = []
    for language, words in given.items():
        place = f"{path}: {language}"
        if not (len(language) == 2 and language.isascii() and language.isalpha() and language.islower()):
            problems.append(f"{place}: name a language by its two letters, as in 'fr'")
        for key, text in words.items():
            if key not in pattern:
                problems.append(f"{place}.{key}: there is no such text")
            elif not _like(text, pattern[key]):
                kind = "a list of strings" if isinstance(pattern[key], list) else "a string"
                problems.append(f"{place}.{key}: must be {kind}")
        known[language] = known.get(language, {}) | words
        if lacking := [key for key in pattern if key not in known[language]]:
            problems.append(f"{place}: lacks {', '.join(lacking)}")
    if problems:
        raise InputError(*problems)
    return known


def _like(text: object, pattern: object) -> bool:
    if isinstance(pattern, list):
        return isinstance(text, list) and len(text) > 0 and all(isinstance(part, str) for part in text)
    return isinstance(text, str)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a page: all of it or nothing. A page that stands there already is replaced.

    Raises InputError where something else stands there.
    """
    if (
        folder.exists()
        and not (folder / CHECKSUMS).is_file()
        and (not folder.is_dir() or any(folder.iterdir()))
    ):
        raise InputError(f"{folder}: holds something other than a page; name another folder with --out")
    folder.parent.mkdir(parents=True, exist_ok=True)
    written = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    replaced = folder.with_name(f"{written.name}-replaced")
    try:
        for name, content in files.items():
            (written / name).parent.mkdir(parents=True, exist_ok=True)
            (written / name).write_bytes(content)
        if folder.exists():
            folder.rename(replaced)
        written.rename(folder)
    finally:
        for left in (written, replaced):
            shutil.rmtree(left, ignore_errors=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a file: all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        written.write_bytes(content)
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def read_folder(folder: Path) -> dict[str, bytes]:
    """The files of a page by their path. Raises InputError where one is missing or is not what was written."""
    remedy = "write the page with: sweep human page"
    try:
        checksums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        files = {name: (folder / name).read_bytes() for name in checksums}
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: is missing; {remedy}") from None
    except (ValueError, TypeError, OSError):
        raise InputError(f"{folder}: holds no readable page; {remedy}") from None
    changed = [
        name for name, content in files.items() if hashlib.sha256(content).hexdigest() != checksums[name]
    ]
    if changed:
        raise InputError(
            f"{folder / changed[0]}: is not what was written ({len(changed)} such files); {remedy}"
        )
    return files


def experiment_of(files: Mapping[str, bytes]) -> dict[str, Any]:
    """What `trials.js` of a page holds: experiment_id, contact, and the trials of each list."""
    text = files[TRIALS].decode()
    content: dict[str, Any] = json.loads(text.partition("=")[2].strip().removesuffix(";"))
    return content
