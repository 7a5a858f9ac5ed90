"""A Milvus server as this package uses it; what it sends is not trusted.

A call waits ANSWERS_WITHIN seconds, in which pymilvus tries again where the server cannot be
reached, as while it starts anew.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.errors import GalleryChangedError, ImgretError, ServerError
from retrieval.libraries import how_to_install, is_installed
from retrieval.milvus.address import TOKEN_NAME, ServedAddress
from retrieval.milvus.collection import HALF_WRITTEN, PROPERTY, VECTOR, Collection
from retrieval.milvus.kinds import INDEXES, MOST_FOUND, build_parameters
from retrieval.milvus.listener import first_answer, other_protocol
from retrieval.progress import Progress
from retrieval.reached import why_unreachable
from retrieval.text import one_sentence
from retrieval.words import ServedKind

if TYPE_CHECKING:
    from pymilvus import MilvusClient

ANSWERS_WITHIN, WRITES_WITHIN = 10.0, 60.0  # seconds
SETTLES_WITHIN = 24 * 3600.0  # an index of 10^9 vectors takes hours
POLL = 0.5  # seconds
IDS_A_CALL = 4096
CONNECT_FAILED = 2
NOT_FOUND = (100, 1600)  # what Milvus answers for a collection and for an alias
SAID_ALONE = ("DEADLINE_EXCEEDED", "UNAUTHENTICATED")  # of gRPC, whatever it says besides
NOT_LOADED = 101
ALIAS_TAKEN = 1602
UNKNOWN_USER = (1400, 1401, 1800)
METRIC = "IP"
LONGEST_STORED = 65_535  # bytes that Milvus stores of a text
STORED_TEXT = {"path": LONGEST_STORED, "label": LONGEST_STORED, "sha256": 64}
STORED_WHOLE = {"size": 64, "mtime_ns": 64, "checksum": 64, "width": 32, "height": 32}


class MilvusServer:
    """The server of an address. Raises ServerError where it cannot be reached, or refuses.

    Any number of threads may share one.
    """

    def __init__(self, address: ServedAddress) -> None:
        self.address = address
        self._known: MilvusClient | None = None
        self._connecting = threading.Lock()

    def collection(self, name: str) -> Collection | None:
        """Describe the collection of a name or an alias; None where there is none."""
        try:
            with self._asking() as client:
                found = client.describe_collection(name, timeout=ANSWERS_WITHIN)
        except GalleryChangedError:
            return None
        said = found.get("properties") or {}
        published, unfinished = (str(said.get(key, "")) for key in (PROPERTY, HALF_WRITTEN))
        name, shards = str(found["collection_name"]), int(found["num_shards"])
        return Collection(name, shards, published, unfinished)

    def collections(self) -> list[str]:
        """List the names of all collections."""
        with self._asking() as client:
            return [str(name) for name in client.list_collections(timeout=ANSWERS_WITHIN)]

    def create(self, name: str, d_out: int, shards: int) -> None:
        """Create a collection for vectors of width d_out."""
        from pymilvus import DataType

        with self._asking("--shards" if shards > 1 else "") as client:
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=d_out)
            for field, most in STORED_TEXT.items():
                schema.add_field(field, DataType.VARCHAR, max_length=most)
            schema.add_field("has_label", DataType.BOOL)
            for field, bits in STORED_WHOLE.items():
                schema.add_field(field, DataType.INT64 if bits == 64 else DataType.INT32)
            client.create_collection(
                name, schema=schema, num_shards=shards, consistency_level="Bounded",
                timeout=WRITES_WITHIN,
            )  # fmt: skip

    def build(self, name: str, kind: ServedKind, n: int) -> None:
        """Have an index of about n vectors, where a collection has none."""
        with self._asking() as client:
            if VECTOR in client.list_indexes(name, timeout=ANSWERS_WITHIN):
                return
            index = client.prepare_index_params()
            index.add_index(
                VECTOR, index_name=VECTOR, index_type=INDEXES[kind].name, metric_type=METRIC,
                params=build_parameters(kind, n),
            )  # fmt: skip
            client.create_index(name, index, timeout=WRITES_WITHIN)

    def replicas(self, name: str) -> int:
        """Return how many copies of a collection are loaded; 0 where it cannot be searched."""
        with self._asking() as client:
            if client.get_load_state(name, timeout=ANSWERS_WITHIN)["state"].name != "Loaded":
                return 0
            return len(client.describe_replica(name, timeout=ANSWERS_WITHIN))

    def load(self, name: str, replicas: int, *, anew: bool = False) -> None:
        """Have a collection ready to be searched. anew: with what was indexed since.

        Milvus changes the number of replicas of no loaded collection. Where it cannot hold so many,
        there are as many as before.
        """
        before = self.replicas(name)
        with self._asking("--replicas" if replicas > 1 else "") as client:
            if before and (anew or before != replicas):
                client.release_collection(name, timeout=WRITES_WITHIN)
            try:
                client.load_collection(name, replica_number=replicas, timeout=SETTLES_WITHIN)
            except Exception:
                if before not in (0, replicas):
                    client.load_collection(name, replica_number=before, timeout=SETTLES_WITHIN)
                raise

    def settle(self, name: str, progress: Progress | None) -> None:
        """Have all that was written in the index."""
        with self._asking() as client:
            client.flush(name, timeout=SETTLES_WITHIN)
            until = time.monotonic() + SETTLES_WITHIN
            while time.monotonic() < until:
                found = client.describe_index(name, VECTOR, timeout=ANSWERS_WITHIN)
                done, total = (int(found[key]) for key in ("indexed_rows", "total_rows"))
                if progress and total:
                    progress("indexing", min(done, total), total)
                if str(found["state"]) == "Failed":
                    raise ServerError(
                        f"{self.address} could not build the index. Try another --kind."
                    )
                if str(found["state"]) == "Finished" and done >= total:
                    return  # it counts rows as pending even then
                time.sleep(POLL)

    def say(self, name: str, said: Mapping[str, str]) -> None:
        """Set properties of a collection, all or none.

        Milvus 2.3.5 stores what was set by the call before the last one: killed after a single
        call, it starts with the properties as they were. So each is set twice.
        """
        with self._asking() as client:
            for _ in range(2):
                client.alter_collection_properties(name, dict(said), timeout=WRITES_WITHIN)

    def switch(self, name: str, there: Collection | None) -> None:
        """Make the address lead to a collection. there: what it leads to, or None.

        Raises GalleryChangedError where it leads somewhere by now, though there is None.
        """
        alias = self.address.name
        with self._asking() as client:
            change = client.alter_alias if there else client.create_alias
            change(name, alias, timeout=WRITES_WITHIN)

    def drop(self, name: str) -> None:
        """Delete a collection."""
        with self._asking() as client:
            client.drop_collection(name, timeout=WRITES_WITHIN)

    def write(self, name: str, rows: list[dict[str, Any]]) -> int:
        """Insert rows, or put them in the place of those with their ids.

        Returns the server's time stamp of that, which is later than those of all calls before.
        """
        with self._asking() as client:  # its own upsert() keeps the time stamp to itself
            done = client._get_connection().upsert_rows(name, rows, timeout=WRITES_WITHIN)
            return int(done.timestamp)

    def delete(self, name: str, ids: np.ndarray) -> None:
        """Delete the rows of (n,) ids."""
        with self._asking() as client:
            for start in range(0, len(ids), IDS_A_CALL):
                part = ids[start : start + IDS_A_CALL].tolist()
                client.delete(name, filter=f"id in {part}", timeout=WRITES_WITHIN)

    def held(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids and checksums of all rows, (n,) int64 each, as they are now."""
        self.count(name)  # waits until all that was written is seen, which an iterator does not
        ids, checksums = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        with self._asking() as client:
            pages = client.query_iterator(
                name, batch_size=MOST_FOUND, filter="id >= 0", output_fields=["id", "checksum"],
                consistency_level="Strong", timeout=WRITES_WITHIN,
            )  # fmt: skip
            with contextlib.closing(pages):
                while page := pages.next():
                    ids.append(np.array([row["id"] for row in page], np.int64))
                    checksums.append(np.array([row["checksum"] for row in page], np.int64))
        return np.concatenate(ids), np.concatenate(checksums)

    def count(self, name: str, where: str = "", *, since: int = 0) -> int:
        """Count the rows that pass an expression. since: see search(); 0 waits for all."""
        with self._asking() as client:
            found = client.query(
                name, where, output_fields=["count(*)"], timeout=ANSWERS_WITHIN, **_seen(since)
            )
            return int(found[0]["count(*)"])

    def rows(
        self, name: str, ids: Sequence[int], fields: Sequence[str], *, since: int
    ) -> dict[int, dict[str, Any]]:
        """Return fields of the rows of those of some ids that are there. since: see search()."""
        found: dict[int, dict[str, Any]] = {}
        with self._asking() as client:
            for start in range(0, len(ids), IDS_A_CALL // 4):
                part = list(ids[start : start + IDS_A_CALL // 4])
                rows = client.query(
                    name, f"id in {part}", output_fields=["id", *fields],
                    timeout=ANSWERS_WITHIN, **_seen(since),
                )  # fmt: skip
                found |= {int(row["id"]): row for row in rows}
        return found

    def passing(self, name: str, where: str, *, since: int) -> list[dict[str, Any]]:
        """Return id and vector of the rows that pass an expression, which are few."""
        with self._asking() as client:
            return list(
                client.query(
                    name, where, output_fields=["id", VECTOR], limit=MOST_FOUND,
                    timeout=ANSWERS_WITHIN, **_seen(since),
                )
            )  # fmt: skip

    def search(
        self,
        name: str,
        vectors: np.ndarray,
        limit: int,
        parameters: Mapping[str, Any],
        *,
        where: str = "",
        fields: Sequence[str] = (),
        since: int,
    ) -> list[list[dict[str, Any]]]:
        """Find the rows nearest to (q, d) vectors, best first: id, distance, and entity of fields.

        since: a time stamp; what was written until then is seen.
        """
        with self._asking() as client:
            return list(
                client.search(
                    name, list(vectors), filter=where, limit=limit, anns_field=VECTOR,
                    output_fields=list(fields), timeout=ANSWERS_WITHIN + len(vectors),
                    search_params={"metric_type": METRIC, "params": dict(parameters)},
                    **_seen(since),
                )
            )  # fmt: skip

    def _client(self) -> MilvusClient:
        with self._connecting:
            if self._known is None:
                self._known = self._connected()
            return self._known

    def _connected(self) -> MilvusClient:
        if not is_installed("pymilvus"):
            raise ServerError(how_to_install("pymilvus", by=f"{self.address}"))
        if why := why_unreachable(*self._place):
            raise self._unreachable(why)
        from pymilvus import MilvusClient

        logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)  # it logs tracebacks
        return MilvusClient(
            f"http://{self.address.host}:{self.address.port}",
            token=self.address.token,
            timeout=ANSWERS_WITHIN,
        )

    @contextlib.contextmanager
    def _asking(self, fewer: str = "") -> Iterator[MilvusClient]:
        """Give the client, and turn what it raises into an error of ours.

        fewer: the option that asks for more of something than a server may have.
        """
        try:
            yield self._client()
        except ImgretError:
            raise
        except Exception as error:  # pymilvus raises its own, grpc's and Python's
            raise self._told(error, fewer) from error

    def _told(self, error: Exception, fewer: str) -> ImgretError:
        code = getattr(error, "code", None)
        if code in NOT_FOUND:
            return GalleryChangedError(
                f"{self.address} is not there any more. Run `imgret publish {self.address}`."
            )
        if code == ALIAS_TAKEN:
            return GalleryChangedError(
                f"{self.address} was published by another meanwhile. Run `imgret publish "
                f"{self.address}` again."
            )
        text = one_sentence(Exception(_reason(error)))
        if code in UNKNOWN_USER or "UNAUTHENTICATED" in text.upper():
            return ServerError(
                f"{self.address} does not let you in. Set {TOKEN_NAME} to USER:PASSWORD, or "
                "add the host to ~/.netrc."
            )
        if code == NOT_LOADED:
            return ServerError(
                f"{self.address} is not loaded. Try again where the server has just started; "
                f"otherwise run `imgret publish {self.address}`."
            )
        late = code == CONNECT_FAILED or "DEADLINE" in text.upper()
        if why := why_unreachable(*self._place):
            self._known = None
            return self._unreachable(why)
        if late or "UNIMPLEMENTED" in text.upper():
            self._known = None
            return self._unanswered(late=late)
        if fewer:
            return ServerError(
                f"{self.address} refuses ({text}). Give fewer {fewer}, or enlarge the cluster."
            )
        return ServerError(
            f"{self.address} refuses ({text}). Try again later, or search the gallery itself with "
            "--gallery PATH."
        )

    @property
    def _place(self) -> tuple[str, int]:
        return self.address.host.strip("[]"), self.address.port

    def _unanswered(self, *, late: bool) -> ServerError:
        """Say why somebody listens, but not as Milvus does. late: whether no call was answered."""
        answer = first_answer(*self._place) if late else None
        other = other_protocol(answer) if answer else ""
        if late and not other:
            return self._unreachable(
                "it ends the connection" if answer == b"" else "it does not answer in time"
            )
        return ServerError(
            f"{self.address} is not a Milvus server (it speaks "
            f"{other or 'gRPC, but not as Milvus'}). Correct the host and the port, or search the "
            "gallery itself with --gallery PATH."
        )

    def _unreachable(self, why: str) -> ServerError:
        return ServerError(
            f"{self.address} cannot be reached ({why}). Start the server, or "
            "search the gallery itself with --gallery PATH."
        )


def _reason(error: Exception) -> str:
    """Return why a call failed; what an error of gRPC prints begins with other things."""
    if callable(details := getattr(error, "details", None)):
        code = error.code().name  # type: ignore[attr-defined]  # gRPC's
        return code if code in SAID_ALONE else details() or code
    return str(getattr(error, "message", None) or error)


def _seen(since: int) -> dict[str, Any]:
    """Arguments that have a reader see what was written until a time stamp, without waiting.

    0 stands for now, for which a server waits up to half a second.
    """
    if not since:
        return {"consistency_level": "Strong"}
    return {"consistency_level": "Customized", "guarantee_timestamp": since}
