"""The heads of a study as shapes: layers without trained weights, from which cost and memory follow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweep.lrp import Network
from sweep.lrp.assignment import Bias
from sweep.lrp.composites import composite
from sweep.lrp.layers import WEIGHTED
from sweep.lrp.rules import Rule
from sweep.models.network import untrained_head
from sweep.plan import Plan


@dataclass(frozen=True)
class Outline:
    """A frozen part, and what models on it have behind it."""

    trunk: Network
    head: Network
    models: tuple[str, ...]
    """The models that have it, by id."""
    is_deep: bool

    @property
    def head_bytes(self) -> float:
        """Bytes of the head's weights."""
        return float(
            sum(
                layer.kernel.nbytes + layer.bias.nbytes
                for layer in self.head.layers
                if isinstance(layer, WEIGHTED)
            )
        )

    def rules(
        self, given: str | dict[str, Any], bias: Bias
    ) -> tuple[tuple[Rule | None, ...], tuple[Rule | None, ...]]:
        """The rules of the trunk's layers and those of the head's."""
        whole = self.trunk.joined(self.head)
        rules = composite(given).rules(whole.layers, bias, whole.reads)
        count = len(self.trunk.layers)
        return rules[:count], rules[count:]


def outlines(plan: Plan, networks: Mapping[str, Network]) -> list[Outline]:
    """Every kind of head, in the order of the models; `networks` are the frozen parts."""
    size = plan.study.dataset.input_size
    tails = {
        name: backbone.parts(size)[1]
        for name, backbone in plan.backbones.items()
        if backbone.before is not None
    }
    groups: dict[tuple[str, tuple[int, ...], int], list[str]] = {}
    for model in plan.models:
        groups.setdefault((model.backbone, model.cell.finetune.hidden, len(model.classes)), []).append(
            model.id
        )
    found = []
    for (backbone, hidden, n_classes), models in groups.items():
        trunk, tail = networks[backbone], tails.get(backbone)
        head = untrained_head(tail, trunk.output_shape, hidden, n_classes)
        found.append(Outline(trunk, head, tuple(models), tail is not None or bool(hidden)))
    return found
