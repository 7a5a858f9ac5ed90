"""A small store that only waits and sends: S3's requests for listing and reading, of one folder.

python -m benchmarks.slow_store PORT FOLDER MILLISECONDS
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "photos"


class SlowStore:
    """Answers after a while, any number of requests at a time; files are held in memory."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.seconds = seconds
        self.objects = {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        self.etags = {
            key: hashlib.md5(content, usedforsecurity=False).hexdigest()
            for key, content in self.objects.items()
        }
        self.now = datetime.now(UTC)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
                await asyncio.sleep(self.seconds)
                writer.write(self._answer(method, target, head.lower()))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, method: str, target: str, head: bytes) -> bytes:
        parts = urlsplit(target)
        key = unquote(parts.path).removeprefix(f"/{BUCKET}").lstrip("/")
        if not key:
            return _response("200 OK", self._listing(parse_qs(parts.query)), [])
        content = self.objects.get(key)
        if content is None:
            return _response("404 Not Found", b"", [])
        fields = [
            f'ETag: "{self.etags[key]}"',
            f"Last-Modified: {format_datetime(self.now, usegmt=True)}",
        ]
        status = "200 OK"
        if b"\r\nrange: bytes=" in head:
            asked = head.partition(b"\r\nrange: bytes=")[2].partition(b"\r\n")[0].decode()
            start, _, end = asked.partition("-")
            last = min(int(end or len(content)), len(content) - 1)
            fields.append(f"Content-Range: bytes {start}-{last}/{len(content)}")
            content, status = content[int(start) : last + 1], "206 Partial Content"
        return _response(status, content, fields, sends=method != "HEAD")

    def _listing(self, asked: dict[str, list[str]]) -> bytes:
        """All keys below a prefix, those of its folders once."""
        prefix, delimiter = asked.get("prefix", [""])[0], asked.get("delimiter", [""])[0]
        folders, found = set(), []
        moment = self.now.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        for key, content in self.objects.items():
            if not key.startswith(prefix):
                continue
            inside, slash, _ = (
                key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            )
            if slash:
                folders.add(f"{prefix}{inside}/")
                continue
            found.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{moment}</LastModified>"
                f'<ETag>"{self.etags[key]}"</ETag><Size>{len(content)}</Size></Contents>'
            )
        found += [
            f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            for folder in sorted(folders)
        ]
        body = "".join(found)
        return (
            f"<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>false</IsTruncated>{body}"
            "</ListBucketResult>"
        ).encode()


def _response(status: str, content: bytes, fields: list[str], *, sends: bool = True) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *fields, "", ""]
    return "\r\n".join(head).encode() + (content if sends else b"")


async def serve_forever(port: int, store: SlowStore) -> None:
    """Listen on loopback."""
    server = await asyncio.start_server(store.serve, "127.0.0.1", port, backlog=512)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    made = SlowStore(Path(sys.argv[2]), float(sys.argv[3]) / 1000)
    asyncio.run(serve_forever(int(sys.argv[1]), made))
