"""The page as an archive that JATOS imports (.jzip): one folder of files, and one .jas file that describes the study.

The form is that of JATOS' own source, version 3.10: `StudyDeserializer`, `ImportExportService` and the models `Study`,
`Component` and `Batch`.
"""

import io
import json
import re
import uuid
import zipfile
from collections.abc import Mapping
from typing import Any

from sweep.human.pages import CHECKSUMS, EXIT, experiment_of

PAGE = "jatos.html"
"""The component that JATOS opens."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every file, so that the same page gives the same bytes."""
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>\n')
_WORKERS = (
    "GeneralSingle",
    "GeneralMultiple",
    "PersonalSingle",
    "PersonalMultiple",
    "Jatos",
    "MT",
    "MTSandbox",
)


def archive(files: Mapping[str, bytes], title: str) -> bytes:
    """Returns the archive of a page. The ids come from the experiment's, so a second import updates the first."""
    experiment_id = experiment_of(files)["experiment_id"]
    folder = f"sweep-human-{experiment_id}"
    described = json.dumps(study(experiment_id, folder, title), ensure_ascii=False, indent=1)
    content = {
        f"{folder}/{name}": data
        for name, data in files.items()
        if name not in ("index.html", EXIT, CHECKSUMS)
    }
    content[f"{folder}/{PAGE}"] = _component(files["index.html"].decode()).encode()
    content[f"{folder}.jas"] = described.encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in sorted(content.items()):
            made.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def study(experiment_id: str, folder: str, title: str) -> dict[str, Any]:
    """What the .jas file says: a study of one component, with one batch that takes every kind of worker."""

    def named(part: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"relevance-sweep/human/{experiment_id}/{part}"))

    component = {
        "uuid": named("component"),
        "title": "Comparison",
        "htmlFilePath": PAGE,
        "reloadable": True,
        "active": True,
        "comments": "",
        "jsonData": None,
    }
    batch = {
        "uuid": named("batch"),
        "title": "Default",
        "active": True,
        "maxActiveMembers": None,
        "maxTotalMembers": None,
        "maxTotalWorkers": None,
        "allowedWorkerTypes": list(_WORKERS),
        "comments": "",
        "jsonData": None,
    }
    return {
        "version": "3",
        "data": {
            "uuid": named("study"),
            "title": re.sub(r"[<>&]", "", title),
            "description": f"Experiment {experiment_id}, made by relevance-sweep.",
            "active": True,
            "groupStudy": False,
            "linearStudy": False,
            "dirName": folder,
            "comments": "",
            "jsonData": None,
            "endRedirectUrl": "",
            "studyEntryMsg": None,
            "componentList": [component],
            "batchList": [batch],
        },
    }


def _component(document: str) -> str:
    """`index.html` with the script that JATOS serves. JATOS sets its own policy on what a page may load."""
    first = '<script src="vendor/jspsych.js"></script>'
    without = document.replace(f'<script src="{EXIT}"></script>\n', "")
    return _POLICY.sub("", without).replace(first, f'<script src="jatos.js"></script>\n{first}')
