"""Small files, large costs: memory and time are bounded before they are spent."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from retrieval.errors import ImageError
from retrieval.images import decode, open_image
from retrieval.images.budget import Budget, limit_for
from tests.retrieval.test_decoding import SQUASH, encoded
from tests.samples import picture


def blank_png(width: int, height: int, depth: int, colour: int) -> bytes:
    channels = {0: 1, 2: 3, 6: 4}[colour]
    packer, row = zlib.compressobj(9), bytes((width * channels * depth + 7) // 8 + 1)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    for kind, body in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body
        data += struct.pack(">I", zlib.crc32(kind + body))
    return data


def with_scans(data: bytes, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + b"\xff\xd9"


# --- memory

PEAK = """
import resource, sys
from pathlib import Path
from retrieval.images import Preprocessing, decode
from retrieval.errors import ImageError
gigabytes = float(sys.argv[2])
if gigabytes:
    limit = int(gigabytes * (1 << 30))
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(Path(sys.argv[1]), Preprocessing(64, (0.5,) * 3, (0.5,) * 3))
    print("decoded")
except ImageError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def decoded_apart(path: Path, gigabytes: float = 0) -> tuple[str, int]:
    """What a process of its own says, and how many MB it needed for the picture."""
    command = [sys.executable, "-c", PEAK, str(path), str(gigabytes)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    said, peak = ended.stdout.splitlines()
    return said, int(peak)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_grey_of_16_bits_takes_few_bytes_a_pixel(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(blank_png(7000, 7000, 16, 0))
    said, peak = decoded_apart(tmp_path / "x.png")
    assert said == "decoded"
    assert peak < 49 * 4.5  # MB for 49 megapixels


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS bounds nothing elsewhere")
def test_a_picture_beyond_the_budget_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(blank_png(14_000, 14_000, 8, 6))
    said, peak = decoded_apart(tmp_path / "x.png", 2.5)
    assert "of memory to decode, more than the" in said
    assert "make it smaller" in said
    assert peak < 50


def test_a_picture_of_one_row_is_measured_by_what_resizing_it_takes() -> None:
    with pytest.raises(ImageError, match="of memory to decode"):
        decode(blank_png(190_000_000, 1, 1, 0), SQUASH)


def test_the_limit_is_a_share_of_the_memory() -> None:
    gigabyte = 1 << 30
    assert limit_for(64 * gigabyte) == 16 * gigabyte
    assert limit_for(3 * gigabyte) == gigabyte
    assert limit_for(gigabyte) == gigabyte // 2


def test_decoders_share_a_budget() -> None:
    budget, at_once, most = Budget(100), 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal at_once, most
        with budget.holding(40):
            with lock:
                at_once += 1
                most = max(most, at_once)
            time.sleep(0.02)
            with lock:
                at_once -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


def test_who_waits_for_much_is_not_passed_by_those_who_want_little() -> None:
    budget, order = Budget(100), []

    def work(name: str, need: int) -> None:
        with budget.holding(need):
            order.append(name)

    with budget.holding(50):
        large = threading.Thread(target=work, args=("large", 80))
        large.start()
        time.sleep(0.1)
        small = threading.Thread(target=work, args=("small", 10))
        small.start()
        time.sleep(0.1)
        assert order == []
    large.join()
    small.join()
    assert order == ["large", "small"]


def test_more_than_the_whole_budget_is_refused_with_what_to_do() -> None:
    with pytest.raises(ImageError, match="make it smaller"), Budget(100).holding(101):
        pass


OTHER = """
import sys, time
from pathlib import Path
from retrieval.images.budget import Budget
with Budget(3 << 30, Path(sys.argv[1])).holding(2 << 30):
    print("holding", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
def test_processes_share_the_places_for_large_pictures(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OTHER, str(tmp_path / "places")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "holding\n"
        budget, done = Budget(3 << 30, tmp_path / "places"), threading.Event()

        def work() -> None:
            with budget.holding(2 << 30):
                done.set()

        threading.Thread(target=work, daemon=True).start()
        with budget.holding(1 << 30):  # one place is left
            assert not done.wait(0.3)
        other.kill()  # the system frees what a dead process held
        assert done.wait(10)


def test_without_a_place_to_lock_decoding_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Budget(1 << 30, tmp_path / "file" / "below").holding(1 << 29):
        pass


# --- time


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded(mode: str) -> None:
    data = encoded(Image.new(mode, (64, 64)), "JPEG", progressive=True)
    with pytest.raises(ImageError, match="scans or more, which would take hours"):
        open_image(with_scans(data, 2000))
    assert open_image(with_scans(data, 80))[1:] == (64, 64)


@pytest.mark.long
def test_scans_of_a_large_picture_are_bounded_by_its_pixels() -> None:
    data = encoded(Image.new("L", (12_000, 12_000)), "JPEG", progressive=True)
    with pytest.raises(ImageError, match="scans or more"):
        open_image(with_scans(data, 40), target=64)


def test_scans_hidden_behind_a_marker_within_a_table_are_counted() -> None:
    data = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
    comment = b"\xff\xfe\x00\x06\xff\xd9\xff\xd9"  # looks like the end
    with pytest.raises(ImageError, match="scans or more"):
        open_image(data[:2] + comment + with_scans(data, 300)[2:])
    with pytest.raises(ImageError, match="scans or more"):
        open_image(with_scans(data[:-2] + comment + data[-2:], 300))


def test_ordinary_progressive_jpegs_are_read() -> None:
    image = picture(3, 700, 500)
    data = encoded(image, "JPEG", quality=92, progressive=True)
    assert open_image(data)[1:] == (700, 500)
    assert open_image(encoded(image.convert("CMYK"), "JPEG", progressive=True))[1:] == (700, 500)


def test_a_tiff_of_many_tags_is_looked_at_within_bounds() -> None:
    from retrieval.images.tiff import MAX_ENTRIES, pages_of

    directory = struct.pack("<H", 60_000) + struct.pack("<HHII", 700, 1, 1, 0) * 60_000
    data = b"II*\0" + struct.pack("<I", 8)
    for _ in range(5):
        data += directory + struct.pack("<I", len(data) + len(directory) + 4)
    assert len(pages_of(data)) <= MAX_ENTRIES // 60_000


@pytest.mark.long
def test_a_gif_of_many_empty_frames_is_searched_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = [Image.new("P", (2000, 2000), n % 2) for n in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    one = stream.getvalue()
    head, body = one[: one.index(b"!\xf9")], one[one.index(b"!\xf9") : -1]
    data = head + body * 400 + b";"
    loaded, load = [], GifImageFile.load

    def counted(image: GifImageFile) -> object:
        loaded.append(image)
        return load(image)

    monkeypatch.setattr(GifImageFile, "load", counted)
    assert decode(data, SQUASH).facts.frames >= 400
    assert 1 < len(loaded) < 200  # of 1,200 frames
