"""Computing a stage again on request: what is stored of it, and of all that is made from it, is set aside."""

import json
from contextlib import suppress

from sweep.errors import WorkError
from sweep.stages import STAGES, stages_from
from sweep.storage.sealing import BrokenSeal
from sweep.storage.store import REPLACED, Store

BEGUN = ".refresh.json"
"""Says, until all of it is done, which stage is being set aside."""


def set_replaced_aside(store: Store, stage: str | None) -> None:
    """Set aside what is stored of `stage` and of the stages made from it, and whatever an earlier refresh left.

    Whatever is stored goes, also units that the study as it stands does not ask for, as they rest on the same inputs. The
    last stages go first: a process that dies meanwhile leaves nothing that is made from what is gone, and the next run
    ends what this one has begun.
    """
    wanted = {name for name in (stage, _begun(store)) if name is not None}
    if not wanted:
        return
    first = min(wanted, key=list(STAGES).index)
    others = wanted - {first}
    store.write_json(BEGUN, json.dumps({"stage": first}).encode())
    renewed = set(stages_from(first)).union(*(stages_from(other) for other in others))
    for name in reversed([name for name in STAGES if name in renewed]):
        for table in reversed(STAGES[name].tables):
            store.set_aside(store.others(table, ()), REPLACED)
    store.files.delete(BEGUN)


def _begun(store: Store) -> str | None:
    if BEGUN not in store.files.names(""):
        return None
    with suppress(BrokenSeal, WorkError, KeyError, ValueError):
        stage = json.loads(store.read_json(BEGUN))["stage"]
        return stage if stage in STAGES else None
    return None
