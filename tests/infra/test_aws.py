"""The AWS file, resolved and launched by Ray's own code against a server that plays EC2, IAM and SSM.

tests/cluster/test_aws.py goes on from here: a whole `ray up`, a study, and what the autoscaler makes of it.
"""

import copy
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.infra.test_ray_cluster import CONFIG, INFRA, NODE_TYPES, README

boto3 = pytest.importorskip("boto3")
moto_server = pytest.importorskip("moto.server")
ACCOUNT = "123456789012"
"""The account that moto plays."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """Instances by node type, launched from the file as `ray up` and the autoscaler do."""
    from ray.autoscaler._private.aws import config as aws_config
    from ray.autoscaler._private.aws.utils import client_cache, resource_cache
    from ray.autoscaler._private.commands import _bootstrap_config
    from ray.autoscaler._private.providers import _get_node_provider

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    home = tmp_path_factory.mktemp("laptop")
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("token")
    caches = (client_cache, resource_cache, aws_config._get_subnets_or_die)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "HOME": str(home),
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        make_profiles()
        for cache in caches:
            cache.cache_clear()
        config = yaml.safe_load((INFRA / "ray-cluster.yaml").read_text())
        config = _bootstrap_config(config, no_config_cache=True)
        provider = _get_node_provider(config["provider"], config["cluster_name"])
        for name, kind in config["available_node_types"].items():
            role = "head" if name == config["head_node_type"] else "worker"
            tags = {
                "ray-node-kind": role,
                "ray-user-node-type": name,
                "ray-launch-config": "",
                "ray-node-name": name,
            }
            provider.create_node(copy.deepcopy(kind["node_config"]), tags, 1)
        ec2 = boto3.client("ec2")
        found = [one for group in ec2.describe_instances()["Reservations"] for one in group["Instances"]]
        yield {tags_of(one)["ray-user-node-type"]: one for one in found}
        for cache in caches:
            cache.cache_clear()
    server.stop()


def make_profiles() -> None:
    """The roles, policies and profiles that infra/README.md has one make."""
    iam = boto3.client("iam")
    trust, bucket, autoscaler = re.findall(r"```json\n(.*?)```", README.read_text(), re.DOTALL)
    for role in ("relevance-sweep-head", "relevance-sweep-worker"):
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust)
        iam.put_role_policy(RoleName=role, PolicyName="bucket", PolicyDocument=filled(bucket))
        iam.create_instance_profile(InstanceProfileName=role)
        iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
    iam.put_role_policy(
        RoleName="relevance-sweep-head", PolicyName="autoscaler", PolicyDocument=filled(autoscaler)
    )


def filled(policy: str) -> str:
    return policy.replace("ACCOUNT", ACCOUNT).replace("BUCKET", "bucket")


def tags_of(instance: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in instance["Tags"]}


def test_instances_are_what_the_file_says(cloud: dict[str, dict[str, Any]]) -> None:
    assert set(cloud) == set(NODE_TYPES)
    for name, one in cloud.items():
        asked = NODE_TYPES[name]["node_config"]
        assert one["InstanceType"] == asked["InstanceType"]
        assert one["ImageId"] == asked["ImageId"]
        profile = one["IamInstanceProfile"]["Arn"].rpartition("/")[2]
        assert profile == asked["IamInstanceProfile"]["Name"]
        assert one["MetadataOptions"]["HttpTokens"] == "required"
        assert tags_of(one)["ray-cluster-name"] == CONFIG["cluster_name"]


def test_only_workers_are_bought_on_the_spot_market(cloud: dict[str, dict[str, Any]]) -> None:
    assert {name: one.get("InstanceLifecycle") for name, one in cloud.items()} == {
        "head": None,
        "gpu_spot": "spot",
    }


def test_from_outside_port_22_alone_is_open(cloud: dict[str, dict[str, Any]]) -> None:
    groups = {group["GroupId"] for one in cloud.values() for group in one["SecurityGroups"]}
    assert len(groups) == 1
    [group] = boto3.client("ec2").describe_security_groups(GroupIds=list(groups))["SecurityGroups"]
    public = [rule for rule in group["IpPermissions"] if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in public] == [("tcp", 22, 22)]
    for rule in group["IpPermissions"]:
        assert not rule["PrefixListIds"]
        assert {pair["GroupId"] for pair in rule["UserIdGroupPairs"]} <= groups


def test_the_profiles_give_no_machine_more_than_it_needs(cloud: dict[str, dict[str, Any]]) -> None:
    iam = boto3.client("iam")
    allowed: dict[str, set[str]] = {}
    for role in ("relevance-sweep-head", "relevance-sweep-worker"):
        assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
        allowed[role] = set()
        for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            policy = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            for statement in policy["Statement"]:
                actions = statement["Action"]
                allowed[role] |= {actions} if isinstance(actions, str) else set(actions)
    assert {action.partition(":")[0] for action in allowed["relevance-sweep-worker"]} == {"s3"}
    assert {action.partition(":")[0] for action in allowed["relevance-sweep-head"]} == {
        "s3",
        "ec2",
        "ssm",
        "iam",
    }
    # The policy names the one type that the autoscaler may start; a change of the file is one of the policy.
    [start] = [one for one in json.loads(autoscaler())["Statement"] if one["Sid"] == "StartWorkers"]
    wanted = {kind["node_config"]["InstanceType"] for name, kind in NODE_TYPES.items() if name != "head"}
    assert {start["Condition"]["StringEquals"]["ec2:InstanceType"]} == wanted


def autoscaler() -> str:
    """The policy of the head."""
    return str(re.findall(r"```json\n(.*?)```", README.read_text(), re.DOTALL)[2])


def test_the_names_of_images_are_looked_up_where_the_head_may_look() -> None:
    [look] = [one for one in json.loads(autoscaler())["Statement"] if one["Sid"] == "FindImage"]
    prefix = look["Resource"].rpartition("parameter")[2].rstrip("*")
    for kind in NODE_TYPES.values():
        assert kind["node_config"]["ImageId"].startswith(f"resolve:ssm:{prefix}")
