"""Reads from a cluster file of Ray which machines it rents, how many of them, and on which market."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.costs.prices import ADDRESS_DOLLARS, DISK_DOLLARS, MACHINES, SPOT_SHARE, Machine
from sweep.errors import InputError
from sweep.study.yaml_text import parse_yaml


@dataclass(frozen=True)
class NodeType:
    """Machines of one kind."""

    name: str
    machine: str
    spot: bool
    most: int
    """How many there may be."""
    dollars: float
    """Per machine and hour, with disk and address."""
    kind: Machine


@dataclass(frozen=True)
class ClusterFile:
    """A head, and the machines that do the work."""

    path: Path
    head: NodeType
    workers: NodeType
    idle_seconds: float
    """How long a machine without work is kept."""


def read_cluster_file(path: Path) -> ClusterFile:
    """Read a cluster file for AWS or Google Cloud.

    Raises InputError, a line with the file, the place and the remedy, where it rents nothing that has a price here.
    """
    try:
        content = parse_yaml(path, path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}; name a cluster file (infra/*.yaml)"
        ) from None
    provider = _mapping(path, content, "provider").get("type")
    if not isinstance(provider, str) or provider not in DISK_DOLLARS:
        raise InputError(
            f"{path}: provider.type: rents no machines ({provider}); prices are known for aws and gcp"
        )
    types = _mapping(path, content, "available_node_types")
    head = content.get("head_node_type")
    if not isinstance(head, str) or head not in types:
        raise InputError(f"{path}: head_node_type: names none of available_node_types ({head})")
    others = [name for name in types if name != head]
    if len(others) != 1:
        raise InputError(
            f"{path}: available_node_types: has {len(others)} types of workers; costs are known for one beside the head"
        )
    most = _number(path, "max_workers", content, 2)
    own = _mapping(path, types, others[0], f"available_node_types.{others[0]}")
    most = min(most, _number(path, "max_workers", own, most, f"available_node_types.{others[0]}"))
    workers = _node_type(path, types, others[0], provider, most)
    if workers.kind.gpu is None:
        raise InputError(
            f"{path}: available_node_types.{workers.name}: {workers.machine} has no GPU, whose speed costs rest on"
        )
    if workers.most < 1:
        raise InputError(f"{path}: max_workers: permits no worker; write 1 or more")
    idle = 60.0 * _number(path, "idle_timeout_minutes", content, 5)
    return ClusterFile(path, _node_type(path, types, head, provider, 1), workers, idle)


def _node_type(path: Path, types: Mapping[str, Any], name: str, provider: str, most: float) -> NodeType:
    place = f"available_node_types.{name}"
    kind = _mapping(path, types, name, place)
    config = _mapping(path, kind, "node_config", f"{place}.node_config")
    machine = config.get("InstanceType" if provider == "aws" else "machineType")
    if not isinstance(machine, str) or machine not in MACHINES:
        raise InputError(
            f"{path}: {place}.node_config: no price is known for {machine}; add it to sweep/costs/prices.py "
            f"(known: {', '.join(MACHINES)})"
        )
    spot = "spot" in _found(config, "MarketType") or "SPOT" in _found(config, "provisioningModel")
    gigabytes = [size for size in _found(config, "VolumeSize", "diskSizeGb") if isinstance(size, int)]
    known = MACHINES[machine]
    dollars = (
        known.dollars * (SPOT_SHARE if spot else 1)
        + sum(gigabytes) * DISK_DOLLARS[provider]
        + ADDRESS_DOLLARS
    )
    return NodeType(name, machine, spot, int(most), dollars, known)


def _mapping(path: Path, content: Any, name: str, place: str = "") -> Mapping[str, Any]:
    found = content.get(name) if isinstance(content, Mapping) else None
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: {place or name}: missing; name a cluster file of Ray (infra/*.yaml)")
    return found


def _number(path: Path, name: str, content: Mapping[str, Any], default: float, place: str = "") -> float:
    found = content.get(name, default)
    if not isinstance(found, int | float):
        raise InputError(f"{path}: {place}{'.' if place else ''}{name}: must be a number (got {found!r})")
    return found


def _found(value: Any, *names: str) -> list[Any]:
    """What stands under these names, however deep."""
    if isinstance(value, list):
        return [one for inside in value for one in _found(inside, *names)]
    if not isinstance(value, Mapping):
        return []
    here = [inside for name, inside in value.items() if name in names]
    return here + [one for inside in value.values() for one in _found(inside, *names)]
