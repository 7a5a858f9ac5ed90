"""The whole of it on one machine: a store, a Ray cluster and Milvus on loopback, with kills.

    pip install 'imgret[cluster,objects,milvus]' 'moto[server]' milvus==2.3.5
    python examples/cluster/run.py

It renders pictures, puts them into a bucket of moto's S3, and runs the lines of README.md. Driver,
publisher and Milvus are killed in their middle, and the same commands run again. At last the
answers are compared with those of a gallery in a folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.milvus_server import MilvusProcess

K = 5
BUCKET = "photos"
IMAGES, GALLERY = f"s3://{BUCKET}/images", f"s3://{BUCKET}/photos.imgret"
MOTO = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"


def main() -> int:
    """Run it all; return 0 where every answer was the same."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=24, help="of each of four classes")
    parser.add_argument("--without", nargs="*", choices=["ray", "milvus"], default=[])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        os.environ |= stack.enter_context(_store(folder))
        _imgret("sample", folder / "parts", "--train", asked.pictures, "--test", 1)
        pictures = folder / "parts" / "train"
        _send(pictures)
        _imgret("index", pictures, "--gallery", folder / "local.imgret")
        queries = sorted(pictures.rglob("*.jpg"))[:: asked.pictures]
        wanted = [_answers(query, folder / "local.imgret") for query in queries]
        cluster = "processes"
        if "ray" not in asked.without:
            cluster = stack.enter_context(_ray())
        index = ("index", IMAGES, "--gallery", GALLERY, "--cluster", cluster)

        _killed_amid("Encoding", *index)
        _imgret(*index)
        _check("the gallery in the store", wanted, [_answers(query, GALLERY) for query in queries])

        if "milvus" not in asked.without:
            served = MilvusProcess(folder / "milvus")
            stack.callback(served.kill)
            served.start()
            publish = ("publish", f"milvus://127.0.0.1:{served.port}/photos", "--gallery", GALLERY)
            _killed_amid("Sending to the server", *publish)
            _imgret(*publish)
            address = f"milvus://127.0.0.1:{served.port}/photos?gallery={GALLERY}"
            _check("Milvus", wanted, [_answers(query, address) for query in queries])
            served.kill()
            served.start()
            _wait_until_served(queries[0], address)
            _check("Milvus after kill -9", wanted, [_answers(q, address) for q in queries])
    print("Every answer was that of the gallery in a folder.")
    return 0


def _imgret(*arguments: object) -> str:
    command = [sys.executable, "-m", "imgret", *map(str, arguments)]
    print("$ imgret", *arguments[:], flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _killed_amid(step: str, *arguments: object) -> None:
    """Run a command and kill it with -9, and all that it has started, once it tells of a step."""
    print("$ imgret", *arguments, f"  # kill -9 while {step.lower()}", flush=True)
    command = [sys.executable, "-m", "imgret", *map(str, arguments)]
    with subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        said: list[str] = []
        for line in process.stderr or ():
            said.append(line)
            if step in line:
                break
        else:
            raise SystemExit(f"The command ended before it was {step.lower()}:\n{''.join(said)}")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _answers(query: Path, gallery: object) -> list[tuple[str, float]]:
    found: Any = json.loads(
        _imgret("query", query, "--gallery", gallery, "--k", K, "--format", "json")
    )
    return [(Path(m["path"]).name, round(m["score"], 3)) for m in found[0]["matches"]]


def _wait_until_served(query: Path, address: str) -> None:
    """Ask until the server has loaded what it had before it was killed."""
    until = time.monotonic() + 180
    while True:
        try:
            _answers(query, address)
        except subprocess.CalledProcessError:
            if time.monotonic() > until:
                raise
        else:
            return


def _check(what: str, wanted: list[Any], found: list[Any]) -> None:
    if found != wanted:
        raise SystemExit(f"{what} answers otherwise: {found} instead of {wanted}")
    print(f"{what}: the same {K} matches for {len(wanted)} queries", flush=True)


@contextlib.contextmanager
def _store(folder: Path) -> Iterator[dict[str, str]]:
    """moto's S3 on loopback with a bucket; gives the environment of its clients."""
    port = _free_port()
    with (folder / "moto.log").open("w") as log, subprocess.Popen(
        [sys.executable, "-c", MOTO, str(port)], stdout=log, stderr=log
    ) as process:  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(f"{address}/moto-api/")
            request = urllib.request.Request(f"{address}/{BUCKET}", method="PUT")
            urllib.request.urlopen(request).close()
            yield {
                "AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "x",
                "AWS_SECRET_ACCESS_KEY": "y", "IMGRET_CACHE": str(folder / "cache"),
            }  # fmt: skip
        finally:
            process.kill()


def _send(pictures: Path) -> None:
    import obstore
    from obstore.store import from_url

    store = from_url(f"s3://{BUCKET}", client_options={"allow_http": True})
    for file in sorted(pictures.rglob("*.jpg")):
        obstore.put(store, f"images/{file.relative_to(pictures).as_posix()}", file)


@contextlib.contextmanager
def _ray() -> Iterator[str]:
    """A Ray head with a server for clients, as `ray start` makes it; gives its address."""
    ray = shutil.which(
        "ray", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if ray is None:
        raise SystemExit("There is no command ray. Install it, or give --without ray.")
    client = _free_port()
    # who joins needs the token; all commands here get it by their environment
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    quiet = {"RAY_USAGE_STATS_ENABLED": "0"}
    command = [
        ray, "start", "--head", "--block", "--port", str(_free_port()), "--node-ip-address",
        "127.0.0.1", "--ray-client-server-port", str(client), "--include-dashboard", "false",
    ]  # fmt: skip
    with subprocess.Popen(command, env=os.environ | quiet, stdout=subprocess.DEVNULL) as head:
        try:
            _wait_for_port(client, head)
            yield f"ray://127.0.0.1:{client}"
        finally:
            head.terminate()  # it ends what it has started, and no other Ray of this machine


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    raise SystemExit("Ray did not start.")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait(address: str) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2):
            return
        time.sleep(0.1)
    raise TimeoutError(address)


if __name__ == "__main__":
    sys.exit(main())
