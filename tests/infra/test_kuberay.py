"""The manifest for Kubernetes and the image it names.

By Ray's own reading of the manifest, always. By the schema of the operator's custom resources where a copy of it lies
(it is large, and not ours): KUBERAY_CRDS names the folder `ray-operator/config/crd/bases` of a checkout of
ray-project/kuberay. The image is not built here; its file is held to the cluster files.
"""

import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.infra.test_ray_cluster import CONFIG as AWS
from tests.infra.test_ray_cluster import INFRA, ROOT, TOKEN, pins

MANIFEST: dict[str, Any] = yaml.safe_load((INFRA / "kuberay.yaml").read_text())
SPEC = MANIFEST["spec"]
GROUPS = [SPEC["headGroupSpec"], *SPEC["workerGroupSpecs"]]
PODS = [group["template"]["spec"] for group in GROUPS]
CONTAINERS = [container for pod in PODS for container in pod["containers"]]
DOCKERFILE = (INFRA / "Dockerfile").read_text()


def schema_of(kind: str, version: str) -> dict[str, Any]:
    """The schema of a custom resource; what it does not name is an error, as for `kubectl --validate=strict`."""
    folder = os.environ.get("KUBERAY_CRDS")
    if not folder:
        pytest.skip("needs the schema of KubeRay's operator: KUBERAY_CRDS=…/ray-operator/config/crd/bases")
    crd = yaml.load((Path(folder) / f"ray.io_{kind}.yaml").read_bytes(), yaml.CSafeLoader)
    [found] = [one for one in crd["spec"]["versions"] if one["name"] == version]
    schema: dict[str, Any] = closed(found["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def closed(schema: Any) -> Any:
    """The schema with no room for fields that it does not name, and with Kubernetes' numbers-or-words."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(value) for name, value in schema.items()}
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def test_the_operator_knows_every_field() -> None:
    kind, version = "rayclusters", MANIFEST["apiVersion"].partition("/")[2]
    schema = schema_of(kind, version)
    jsonschema.validate(MANIFEST, schema)
    mistakes: list[dict[str, Any]] = [
        {"workerGroupSpec": []},
        {"rayVersion": 2.6},
        {"headGroupSpec": {"template": {}, "cpus": 1}},
    ]
    for damaged in mistakes:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(MANIFEST | {"spec": SPEC | damaged}, schema)


def test_rays_autoscaler_reads_the_groups_as_meant() -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    cluster = {**MANIFEST, "metadata": {**MANIFEST["metadata"], "namespace": "default"}}
    config = _derive_autoscaling_config_from_ray_cr(cluster)
    validate_config(prepare_config(config))
    kinds = config["available_node_types"]
    assert kinds[config["head_node_type"]]["resources"]["CPU"] == 0
    assert kinds["gpu"]["resources"]["GPU"] == 1
    assert (kinds["gpu"]["min_workers"], kinds["gpu"]["max_workers"]) == (0, AWS["max_workers"])
    assert config["idle_timeout_minutes"] == AWS["idle_timeout_minutes"]


def test_nobody_talks_to_it_without_a_token_and_nothing_is_published() -> None:
    assert SPEC["authOptions"] == {"mode": "token"}
    text = (INFRA / "kuberay.yaml").read_text()
    assert not re.search(
        r"LoadBalancer|NodePort|hostNetwork|hostPath|hostPort|privileged: true|enableIngress", text
    )


def test_pods_run_as_nobody_in_particular() -> None:
    for pod in PODS:
        assert pod["securityContext"]["runAsNonRoot"] is True
    for container in CONTAINERS:
        context = container["securityContext"]
        assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]


def test_the_versions_are_those_of_the_locks() -> None:
    assert SPEC["rayVersion"] == pins(ROOT / "requirements.lock")["ray"]
    assert {container["image"].rpartition(":")[2] for container in CONTAINERS} == {"cpu", "cuda"}
    assert re.findall(r"-t relevance-sweep:(\w+)", DOCKERFILE) == ["cpu", "cuda"]


def test_mlflow_starts_as_its_script_takes_it() -> None:
    [mlflow] = [container for container in CONTAINERS if container["name"] == "mlflow"]
    assert mlflow["command"][1] == "/opt/relevance-sweep/infra/mlflow_server.py"
    assert mlflow["args"] == ["stay", "--keep", "s3://BUCKET/mlflow"]
    assert mlflow["args"][2] in " ".join(AWS["head_start_ray_commands"])


# --- The image -----------------------------------------------------------------------------------------------


def test_the_image_holds_what_a_node_holds() -> None:
    copied = {
        word for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()
    }
    mounted = {local for remote, local in AWS["file_mounts"].items() if remote != TOKEN}
    assert mounted - {"infra"} <= copied
    for path in copied:
        assert list(ROOT.glob(path)), path
    assert re.search(r"^USER 1000$", DOCKERFILE, re.MULTILINE)
    assert "--require-hashes" in DOCKERFILE
    assert "ENV RAY_AUTH_MODE=token" in DOCKERFILE


def test_the_image_is_made_from_the_locks_that_nodes_install() -> None:
    [locks] = re.findall(r'^ARG LOCKS="(.*)"$', DOCKERFILE, re.MULTILINE)
    [cuda] = re.findall(r"--build-arg LOCKS=(\S+)", DOCKERFILE)
    head, worker = (" ".join(AWS[f"{kind}_setup_commands"]) for kind in ("head", "worker"))
    assert re.findall(r"-r ~/relevance-sweep/(\S+)", head) == locks.split()
    assert re.findall(r"-r ~/relevance-sweep/(\S+)", worker) == [cuda]
