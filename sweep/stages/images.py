"""The stage `images`: the table of the study's images, written by the run itself."""

from sweep.keys import key_of
from sweep.plan import Plan
from sweep.stages.cost import FILE_BYTES, ROW_BYTES, Size, StageCost
from sweep.stages.stage import Stage, no_inputs, once_per_plan
from sweep.storage.store import Unit


@once_per_plan
def unit(plan: Plan) -> Unit:
    """The table, whole."""
    return Unit("images", "images", key_of("images", plan.images.key), len(plan.images.ids))


def _cost(size: Size) -> StageCost:
    return StageCost("images", 1, bytes=size.images * ROW_BYTES["images"] + FILE_BYTES)


STAGE = Stage(
    name="images",
    tables=("images",),
    made_from=(),
    units=lambda plan: [unit(plan)],
    inputs=no_inputs(lambda plan: [unit(plan)]),
    settings=lambda plan: {
        "dataset": plan.study.model_dump(mode="json")["dataset"],
        "images": plan.images.key,
    },
    cost=_cost,
)
