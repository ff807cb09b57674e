"""The file for Google Cloud: by Ray's validation, and, where Google's client is installed, by Ray's own launching code.

That code is given a client that sends nothing. What it would have sent is held against the description of Compute
Engine's interface that comes with the client.
"""

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.infra.test_ray_cluster import CONFIG as AWS
from tests.infra.test_ray_cluster import INFRA, ROOT, flatten, pins

COMMANDS_IN_COMMON = ("setup_commands", "worker_start_ray_commands", "file_mounts", "rsync_exclude")


def load() -> dict[str, Any]:
    text = (INFRA / "ray-cluster-gcp.yaml").read_text()
    config = yaml.safe_load(text.replace("PROJECT", "a-project").replace("BUCKET", "a-bucket"))
    assert isinstance(config, dict)
    return config


CONFIG = load()
NODE_TYPES = CONFIG["available_node_types"]


def test_ray_prepares_and_validates_it() -> None:
    prepared = prepare_config(load())
    validate_config(prepared)
    assert set(prepared["available_node_types"]) == set(NODE_TYPES)
    assert prepared["head_setup_commands"] == CONFIG["setup_commands"] + CONFIG["head_setup_commands"]
    with pytest.raises(Exception, match="cluster_nam"):
        validate_config(prepare_config(load() | {"cluster_nam": "x"}))


def test_what_applies_to_any_machine_is_as_on_aws() -> None:
    """A change to one of the files is a change to the other."""
    for name in COMMANDS_IN_COMMON:
        assert CONFIG[name] == AWS[name], name
    for name in ("max_workers", "idle_timeout_minutes", "upscaling_speed", "cluster_name", "head_node_type"):
        assert CONFIG[name] == AWS[name], name
    for name in ("head_setup_commands", "head_start_ray_commands"):
        ours = [
            text.replace("-gcp.lock", "-cluster.lock").replace("gs://a-bucket/", "s3://BUCKET/")
            for text in CONFIG[name]
        ]
        assert ours == AWS[name], name
    waits = [text for text in CONFIG["worker_setup_commands"] if text not in AWS["worker_setup_commands"]]
    assert len(waits) == 1
    assert "nvidia-smi" in waits[0]
    for kind, theirs in zip(NODE_TYPES.values(), AWS["available_node_types"].values(), strict=True):
        for name in ("resources", "min_workers", "max_workers"):
            assert kind[name] == theirs[name]


def test_the_lock_adds_to_the_others_and_changes_nothing() -> None:
    ours = pins(INFRA / "requirements-gcp.lock")
    for lock in (ROOT / "requirements.lock", INFRA / "requirements-cluster.lock"):
        theirs = pins(lock)
        assert {name: (ours[name], theirs[name]) for name in ours.keys() & theirs.keys()} == {
            name: (theirs[name], theirs[name]) for name in ours.keys() & theirs.keys()
        }
    assert pins(INFRA / "requirements-cluster.lock").items() <= ours.items()
    assert {"google-api-python-client", "google-cloud-storage"} <= ours.keys()


def test_each_machine_has_an_account_of_its_own() -> None:
    accounts = {name: kind["node_config"]["serviceAccounts"] for name, kind in NODE_TYPES.items()}
    names = {name: one[0]["email"].partition("@")[0] for name, one in accounts.items()}
    assert names == {"head": "relevance-sweep-head", "gpu_spot": "relevance-sweep-worker"}
    [scope] = accounts["gpu_spot"][0]["scopes"]
    assert scope.endswith("devstorage.read_write")  # buckets, and nothing that costs


def test_nothing_listens_on_every_interface() -> None:
    assert not [text for text in flatten(CONFIG) if "0.0.0.0" in text]
    assert "--dashboard-host=127.0.0.1" in CONFIG["head_start_ray_commands"][1]


# --- Launched by Ray's code ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, dict[str, Any]]]:
    """Methods and bodies of what `ray up` and the autoscaler send for a head and a worker."""
    discovery = pytest.importorskip("googleapiclient.discovery", reason="needs infra/requirements-gcp.lock")
    from ray.autoscaler._private.gcp import config as gcp_config
    from ray.autoscaler._private.gcp import node_provider

    requests: list[tuple[str, dict[str, Any]]] = []
    answers: dict[str, dict[str, Any]] = {
        "cloudresourcemanager.projects.get": {"lifecycleState": "ACTIVE", "projectId": "a-project"},
        "cloudresourcemanager.projects.getIamPolicy": {"bindings": []},
        "iam.projects.serviceAccounts.get": {
            "email": "ray-autoscaler-sa-v1@a-project",
            "projectId": "a-project",
        },
        "compute.projects.get": {"name": "a-project", "commonInstanceMetadata": {}},
        "compute.subnetworks.list": {"items": [{"selfLink": "a-subnet"}]},
    }

    class Request:
        """What the client makes of a call; sends nothing."""

        def __init__(self, http: Any, postproc: Any, uri: str, **given: Any) -> None:
            self._method, body = given["methodId"], given.get("body")
            requests.append((self._method, json.loads(body) if body else {}))

        def execute(self, http: Any = None, num_retries: int = 0) -> dict[str, Any]:
            return answers.get(self._method, {"name": "an-operation", "status": "DONE"})

    def clients(provider: object) -> list[Any]:
        made: list[Any] = [
            discovery.build(
                name,
                version,
                http=SimpleNamespace(credentials=None),
                requestBuilder=Request,
                static_discovery=True,
            )
            for name, version in (("cloudresourcemanager", "v1"), ("iam", "v1"), ("compute", "v1"))
        ]
        return [*made, None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("laptop")))
        patch.setattr(gcp_config, "construct_clients_from_provider_config", clients)
        patch.setattr(node_provider, "construct_clients_from_provider_config", clients)
        config = gcp_config.bootstrap_gcp(prepare_config(load()))
        provider = node_provider.GCPNodeProvider(config["provider"], config["cluster_name"])
        for name, kind in config["available_node_types"].items():
            # As the head is made: the account that Ray has set up, unless the type names one.
            body = copy.deepcopy({**config["head_node"], **kind["node_config"]})
            labels = {"ray-node-name": name, "ray-node-type": "head" if name == "head" else "worker"}
            provider.create_node(body, labels, 1)
    return requests


def made(sent: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The instances that were asked for, by node type."""
    bodies = [body for method, body in sent if method == "compute.instances.insert"]
    return {body["labels"]["ray-node-name"]: body for body in bodies}


def test_instances_are_what_the_file_says(sent: list[tuple[str, dict[str, Any]]]) -> None:
    assert set(made(sent)) == set(NODE_TYPES)
    for name, body in made(sent).items():
        asked = NODE_TYPES[name]["node_config"]
        assert body["machineType"].endswith(f"/machineTypes/{asked['machineType']}")
        assert body["serviceAccounts"] == asked["serviceAccounts"]
        assert body["labels"]["ray-cluster-name"] == CONFIG["cluster_name"]
    assert made(sent)["gpu_spot"]["scheduling"]["provisioningModel"] == "SPOT"
    assert "scheduling" not in made(sent)["head"]


def test_compute_engine_knows_every_field(sent: list[tuple[str, dict[str, Any]]]) -> None:
    googleapiclient = pytest.importorskip("googleapiclient")
    folder = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    schemas = json.loads((folder / "compute.v1.json").read_text())["schemas"]
    for name, body in made(sent).items():
        assert strange(body, schemas["Instance"], schemas, name) == []
    damaged = {**made(sent)["head"], "scheduling": {"provisioningModel": "CHEAP", "onHostFailure": 1}}
    assert len(strange(damaged, schemas["Instance"], schemas, "head")) == 2


def strange(value: Any, schema: dict[str, Any], schemas: dict[str, Any], place: str) -> list[str]:
    """Fields and values that the description of an interface does not know."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    if isinstance(value, list):
        return [line for one in value for line in strange(one, schema["items"], schemas, place)]
    if not isinstance(value, dict):
        return [f"{place}: {value}"] if "enum" in schema and value not in schema["enum"] else []
    fields, found = schema.get("properties", {}), []
    for name, inside in value.items():
        if name in fields:
            found += strange(inside, fields[name], schemas, f"{place}.{name}")
        elif "additionalProperties" not in schema:
            found.append(f"{place}.{name}")
    return found
