"""What a machine without the token gets from another: run there, prints a line of JSON for every open port.

Usage: strangers.py [--token TOKEN] ADDRESS …
"""

import argparse
import json
import socket
import sys
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException

import grpc

PAGES = (
    ("GET", "/"),
    ("GET", "/metrics"),
    ("GET", "/api/version"),
    ("GET", "/api/jobs/"),
    ("GET", "/api/job_agent/jobs/"),
    ("POST", "/api/job_agent/jobs/"),
    ("POST", "/get_or_create_runtime_env"),
    ("GET", "/health"),
    ("GET", "/api/2.0/mlflow/experiments/search?max_results=1"),
)
CALLS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.CoreWorkerService/Exit",
    "/ray.rpc.ReporterService/GetTraceback",
    "/ray.rpc.LogService/ListLogs",
)
"""One of each of the services that Ray 2.60 listens with; an empty message is a valid request to all of them."""

HARMLESS = CALLS[:3]
"""Calls that change nothing where they are answered."""
NOTHING = (None, 401, 403, "UNAUTHENTICATED", "UNIMPLEMENTED", "UNAVAILABLE")
"""Answers that give a stranger nothing: no such service, or who are you?"""


def main() -> None:
    """Scan every port of every address."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--token")
    parser.add_argument("addresses", nargs="+")
    given = parser.parse_args()
    for address in given.addresses:
        for port in open_ports(address):
            found = {
                "address": address,
                "port": port,
                "pages": {f"{method} {path}": page(address, port, method, path) for method, path in PAGES},
                "calls": {
                    name: call(address, port, name, given.token)
                    for name in (HARMLESS if given.token else CALLS)
                },
            }
            sys.stdout.write(json.dumps(found) + "\n")


def open_ports(address: str) -> Iterator[int]:
    """Ports that take a connection."""
    for port in range(1, 65536):
        with socket.socket() as one:
            one.settimeout(2)
            is_open = one.connect_ex((address, port)) == 0
        # Only after the connection is closed: a server that serves one at a time would answer no other meanwhile.
        if is_open:
            yield port


def page(address: str, port: int, method: str, path: str) -> int | None:
    """Status of an answer by HTTP; None where there is none."""
    asking = HTTPConnection(address, port, timeout=5)
    try:
        asking.request(method, path)
        return asking.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        asking.close()


def call(address: str, port: int, name: str, token: str | None) -> str:
    """Status of an answer to a remote procedure call with an empty message."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(f"{address}:{port}") as channel:
        ask = channel.unary_unary(name, request_serializer=bytes, response_deserializer=bytes)
        try:
            ask(b"", timeout=5, metadata=metadata)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


if __name__ == "__main__":
    main()
