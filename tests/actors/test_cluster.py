"""Which Ray cluster a run works on."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

CODE = """
from sweep.actors.cluster import cluster
with cluster(None) as joined:
    import ray
    print(joined, len(ray.nodes()))
"""


def test_without_an_address_a_run_has_a_ray_of_its_own() -> None:
    # Sockets need short paths, shorter than those of tmp_path.
    # Ray's last processes may still be writing logs when the folder is removed.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        # What `ray start` leaves: the address of the machine's latest cluster. Here nobody answers there.
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")
        environment = {**os.environ, "RAY_TMPDIR": folder}
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.stdout.split() == ["False", "1"], done.stderr
