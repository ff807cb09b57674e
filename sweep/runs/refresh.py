"""Computing a stage again on request: what is stored of it, and of all that is made from it, is set aside."""

import json

from sweep.errors import StoreError, WorkError
from sweep.stages import STAGES, stages_from
from sweep.storage.sealing import BrokenSeal
from sweep.storage.store import REPLACED, Store

BEGUN = ".refresh.json"
"""Says, until all of it is done, which stages are being set aside."""


def set_replaced_aside(store: Store, stage: str | None) -> None:
    """Set aside what is stored of `stage` and of the stages made from it, and whatever an earlier refresh left.

    Whatever is stored goes, also units that the study as it stands does not ask for, as they rest on the same inputs. The
    last stages go first: a process that dies meanwhile leaves nothing that is made from what is gone, and the next run
    ends what this one has begun.
    """
    wanted = _begun(store) | ({stage} if stage else set())
    if not wanted:
        return
    store.write_json(BEGUN, json.dumps({"stages": sorted(wanted)}).encode())
    renewed = {name for one in wanted for name in stages_from(one)}
    for name in reversed([name for name in STAGES if name in renewed]):
        for table in reversed(STAGES[name].tables):
            store.set_aside(store.others(table, ()), REPLACED)
    store.files.delete(BEGUN)


def _begun(store: Store) -> set[str]:
    """The stages that an earlier refresh began to set aside."""
    if BEGUN not in store.files.names(""):
        return set()
    try:
        noted = json.loads(store.read_json(BEGUN))["stages"]
    except StoreError:
        raise
    except (
        BrokenSeal,
        KeyError,
        WorkError,
    ):  # damaged, or of another version: which stages it named is not known any more
        return set()
    return set(noted) & set(STAGES)
