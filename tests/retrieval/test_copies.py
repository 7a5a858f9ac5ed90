"""What is called the same picture, a copy or similar; and that no original is named for removal."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, ImageOps

from retrieval.images import PictureFacts
from retrieval.retriever import DuplicateReport, Retriever
from retrieval.retriever.duplicates.pixels import hash_shown
from retrieval.retriever.duplicates.stored import StoredImage
from retrieval.retriever.duplicates.threshold import local_scores
from tests.retrieval.test_perceptual import CHANGES
from tests.samples import drawn

MOST = 1 << 30


@pytest.fixture
def retriever(tmp_path: Path, weights: Path) -> Retriever:
    return Retriever(tmp_path / "g.imgret", backbone=str(weights), engine="torch-fp32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with 40 other pictures."""
    for n in range(40):
        file = tmp_path / "pictures" / "others" / f"{n:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        drawn(100 + n).save(file)
    return tmp_path / "pictures"


def others(report: DuplicateReport) -> dict[str, str | None]:
    """What is named besides the kept, by tier."""
    return {m.path.name: m.tier for group in report.groups for m in group.others}


def test_copies_at_the_default_settings_stand_around_their_original(
    retriever: Retriever, folder: Path
) -> None:
    for seed in range(3):
        drawn(seed).save(folder / f"{seed} original.bmp")  # most bytes
        for name, change in CHANGES.items():
            change(drawn(seed)).save(folder / f"{seed} {name}.jpg", quality=85)
    retriever.index(folder)
    report = retriever.duplicates()
    assert [group.representative.path.name for group in report.groups] == [
        f"{seed} original.bmp" for seed in range(3)
    ]
    named = others(report)
    missed = {f"{s} {n}.jpg" for s in range(3) for n in CHANGES} - set(named)
    assert not missed
    assert set(named.values()) == {"copy"}


def test_a_picture_in_a_frame_never_takes_the_place_of_what_is_in_it(
    retriever: Retriever, folder: Path
) -> None:
    drawn(1).save(folder / "small.png")
    framed = ImageOps.expand(drawn(1).resize((1024, 768)), 40, "white")
    framed.save(folder / "large, framed.png")  # more of the picture: this is the one to keep
    ImageOps.expand(drawn(2), 40, "white").save(folder / "framed.png")
    drawn(2).save(folder / "plain.png")
    retriever.index(folder)
    assert others(retriever.duplicates(tier="copy")) == {"small.png": "copy", "framed.png": "copy"}


def logo(shape: str) -> Image.Image:
    image = Image.new("RGBA", (256, 256), (255, 255, 255, 0))
    pen = ImageDraw.Draw(image)
    draw = pen.ellipse if shape == "ellipse" else pen.rectangle
    draw((20, 60, 200, 90) if shape == "bar" else (20, 20, 230, 230), "white")
    return image


def test_what_is_equal_in_part_is_not_the_same_picture(retriever: Retriever, folder: Path) -> None:
    for shape in ("ellipse", "bar", "square"):
        logo(shape).save(folder / f"white {shape}.png")
    for n in range(3):
        frames = [drawn(n), drawn(n + 9)]
        Image.new("RGB", (256, 192), "white").save(
            folder / f"clip{n}.gif", save_all=True, append_images=frames, duration=200
        )
        drawn(50).save(folder / f"document{n}.tif", save_all=True, append_images=[drawn(60 + n)])
    deep = np.asarray(drawn(3).convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "master 16 bit.png")
    Image.fromarray((deep // 257).astype(np.uint8)).convert("RGB").save(folder / "export.bmp")
    clear = logo("ellipse")
    ImageDraw.Draw(clear).ellipse((30, 30, 220, 220), (200, 30, 30, 255))
    clear.save(folder / "clear.png")
    flat = Image.new("RGB", clear.size, "white")
    flat.paste(clear, mask=clear)
    flat.save(folder / "flattened.bmp")
    drawn(70).save(folder / "srgb.png")
    swapped = ImageCms.createProfile("LAB")
    drawn(70).save(folder / "lab.png", icc_profile=ImageCms.ImageCmsProfile(swapped).tobytes())
    retriever.index(folder)
    named = others(retriever.duplicates(tier="picture"))
    assert set(named) <= {"lab.png", "srgb.png"}  # a profile that fits no RGB changes nothing
    named = others(retriever.duplicates(tier="copy"))
    kept = {"master 16 bit.png", "clear.png", *(f"clip{n}.gif" for n in range(3))}
    kept |= {f"document{n}.tif" for n in range(3)} | {f"white {s}.png" for s in ("bar", "square")}
    assert not kept & set(named)
    assert named["export.bmp"] == "copy"
    similar = others(retriever.duplicates())
    assert not {"master 16 bit.png", "clear.png"} & set(similar)


def form(seed: int) -> Image.Image:
    """A page with twelve fields, each filled with some letters."""
    page = Image.new("RGB", (850, 1100), "white")
    pen, chance = ImageDraw.Draw(page), np.random.default_rng(seed)
    pen.rectangle((40, 40, 810, 140), (30, 60, 120))
    for top in range(180, 1020, 70):
        pen.rectangle((60, top, 790, top + 50), outline="black", width=2)
        pen.text((70, top + 10), "Field:", "black", font_size=22)
        letters = chance.choice(list("abcdefghkmnopsuwz "), int(chance.integers(12, 24)))
        pen.text((260, top + 10), "".join(letters), (20, 20, 90), font_size=22)
    return page


def test_what_is_filled_in_or_coloured_otherwise_is_no_copy(
    retriever: Retriever, folder: Path
) -> None:
    for n in range(3):
        form(n).save(folder / f"form {n}.png")
        form(n).save(folder / f"form {n} again.jpg", quality=60)
    form(0).resize((595, 770)).transpose(Image.Transpose.ROTATE_90).save(
        folder / "form 0 turned.png"
    )
    grey, blue, red = drawn(7).convert("YCbCr").split()
    drawn(7).save(folder / "red.png")
    Image.merge("YCbCr", (grey, ImageOps.invert(blue), red)).convert("RGB").save(
        folder / "blue.png"
    )
    retriever.index(folder)
    report = retriever.duplicates(tier="copy")
    groups = {
        frozenset(m.path.name.split(".")[0] for m in group.members) for group in report.groups
    }
    assert groups == {
        frozenset({"form 0", "form 0 again", "form 0 turned"}),
        frozenset({"form 1", "form 1 again"}),
        frozenset({"form 2", "form 2 again"}),
    }


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_the_hash_is_of_what_shows_however_it_is_stored() -> None:
    image = drawn(1)
    same = [
        *(encoded(image, kind) for kind in ("PNG", "BMP", "TIFF")),
        encoded(image.convert("RGBA"), "PNG"), encoded(image, "WEBP", lossless=True),
    ]  # fmt: skip
    assert len({hash_shown(data, MOST) for data in same}) == 1
    frames = [drawn(n) for n in range(10, 13)]
    clips = [
        encoded(image, kind, save_all=True, append_images=more, lossless=True)
        for kind in ("WEBP", "PNG")
        for more in ([frames[2]], [frames[1], frames[2]])
    ]
    pages = [encoded(image, "TIFF", save_all=True, append_images=[f]) for f in frames]
    rgba = image.convert("RGBA")
    rgba.putalpha(200)
    hidden = Image.new("RGBA", (9, 9), (1, 2, 3, 0))
    deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
    different = [*clips, *pages, encoded(rgba, "PNG"), encoded(hidden, "PNG"), same[0],
                 encoded(Image.fromarray(deep), "PNG"), encoded(image.convert("L"), "PNG"),
                 encoded(Image.fromarray(deep + 1), "PNG")]  # fmt: skip
    hashes = [hash_shown(data, MOST) for data in different]
    assert hashes[0] == hashes[2]  # two frames, as WebP and as PNG
    assert hashes[1] == hashes[3]
    assert hashes[6] == hashes[0]  # nor does it matter that they are called pages
    assert len(set(hashes)) == len(hashes) - 3
    other = encoded(Image.new("RGBA", (9, 9), (7, 7, 7, 0)), "WEBP", lossless=True)
    assert hash_shown(other, MOST) == hash_shown(encoded(hidden, "PNG"), MOST)  # nothing shows


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png[:33] + chunk + png[33:]


def test_the_hash_is_of_the_colours_that_a_file_names_and_of_how_long_frames_show() -> None:
    plain = encoded(drawn(1), "PNG")
    srgb = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    p3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    for kind, same, other in (
        (b"cICP", bytes([1, 13, 0, 1]), bytes([12, 13, 0, 1])),
        (b"cHRM", srgb, p3),
        (b"gAMA", struct.pack(">I", 45455), struct.pack(">I", 100000)),
    ):
        assert hash_shown(with_chunk(plain, kind, same), MOST) == hash_shown(plain, MOST)
        assert hash_shown(with_chunk(plain, kind, other), MOST) != hash_shown(plain, MOST)
    more = [drawn(2), drawn(3)]
    for kind in ("GIF", "PNG", "WEBP"):
        clips = [
            encoded(drawn(1), kind, save_all=True, append_images=more, duration=ms, lossless=True)
            for ms in (100, 900)
        ]
        assert hash_shown(clips[0], MOST) != hash_shown(clips[1], MOST)


def stored(**known: object) -> StoredImage:
    facts = {k: known.pop(k) for k in ("format", "depth", "alpha", "frames") if k in known}
    plain = {"name": "a", "sha256": "", "width": 10, "height": 10, "size": 5, "label": None}
    return StoredImage(**(plain | {"gallery": Path("g"), "facts": PictureFacts(**facts)} | known))  # type: ignore[arg-type]


def test_kept_are_raws_then_most_pixels_depth_transparency_frames_and_bytes() -> None:
    order = [
        stored(format="RAW"), stored(width=11, height=11), stored(depth=16), stored(alpha=True),
        stored(frames=2), stored(size=6), stored(), stored(name="b"),
    ]  # fmt: skip
    mixed = [order[n] for n in (5, 2, 7, 0, 3, 6, 1, 4)]
    assert sorted(mixed, key=lambda image: image.keep_order) == order


def cropped(image: Image.Image) -> Image.Image:
    return image.crop((5, 4, image.width - 5, image.height - 4))


def test_screenshots_do_not_hide_the_near_duplicates_of_pictures(
    retriever: Retriever, folder: Path
) -> None:
    for n in range(0, 40, 4):
        cropped(drawn(100 + n)).save(folder / "others" / f"{n:02} cropped.png")
    for n in range(60):
        shot = Image.new("RGB", (180, 320), "white")
        pen = ImageDraw.Draw(shot)
        pen.rectangle((0, 0, 180, 30), (7, 94, 84))
        for y in range(40, 300, 30):
            pen.rectangle((6, y, 60 + (n * 7 + y * 3) % 90, y + 22), (220, 248, 198))
        (folder / "shots").mkdir(exist_ok=True)
        shot.save(folder / "shots" / f"{n:02}.png")
    retriever.index(folder / "others")
    alone = retriever.duplicates()
    retriever.index(folder / "shots")
    beside = retriever.duplicates()
    pairs = [
        {frozenset(m.path.name[:2] for m in g.members) for g in report.groups
         if "others" in str(g.members[0].path)} for report in (alone, beside)
    ]  # fmt: skip
    assert pairs[0] == pairs[1]
    assert all(len(names) == 1 for names in pairs[1])  # each beside its own
    assert len(pairs[1]) >= 4


def test_a_pictures_own_threshold_is_strict_where_others_are_near() -> None:
    chance = np.random.default_rng(0)
    wide = chance.normal(size=(300, 32))
    tight = chance.normal(size=32) * 3 + 0.1 * chance.normal(size=(300, 32))
    x = np.concatenate([wide, tight])
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    scores = x @ x.T
    np.fill_diagonal(scores, -1)
    near = np.argsort(-scores, axis=1)[:, :16]
    least = local_scores(np.take_along_axis(scores, near, 1), near, len(x))
    assert np.median(least[300:]) > np.median(least[:300]) + 0.05
    counts = scores >= np.maximum(least[:, None], least[None])
    assert counts[300:, 300:].sum() // 2 <= 10  # about one is expected


def test_distinct_matches_are_of_different_pictures_and_counted(
    retriever: Retriever, folder: Path
) -> None:
    drawn(1).save(folder / "one.png")
    shutil.copy(folder / "one.png", folder / "one again.png")
    drawn(1).save(folder / "one.jpg", quality=80)
    drawn(1).transpose(Image.Transpose.ROTATE_180).save(folder / "one turned.png")
    drawn(1).resize((128, 96)).save(folder / "one small.png")
    retriever.index(folder)
    plain = retriever.search(folder / "one.png", k=10)
    assert {m.copies for m in plain} == {1}
    found = retriever.search(folder / "one.png", k=10, distinct=True)
    assert len(found) == 10
    assert found[0].copies == 5
    assert {m.copies for m in found[1:]} == {1}
    assert len({m.path.name[:3] for m in found if m.path.name.startswith("one")}) == 1
    assert found[1:] == [m for m in retriever.search(folder / "one.png", k=45) if "one" not in
                         m.path.name][:9]  # fmt: skip
    everything = retriever.search(folder / "one.png", k=500, distinct=True)
    assert (len(everything), sum(m.copies for m in everything)) == (41, 45)


def test_a_match_and_a_member_say_when_their_file_is_gone(
    retriever: Retriever, folder: Path
) -> None:
    drawn(1).save(folder / "one.png")
    retriever.index(folder)
    (match,) = retriever.search(drawn(1), k=1)
    assert not match.missing
    (folder / "one.png").unlink()
    assert match.missing


@pytest.mark.long
def test_copies_of_real_photographs_are_found_and_nothing_else(cars: Path) -> None:
    from benchmarks.copies import agree, false_pairs, look
    from benchmarks.duplicates import COPIES

    files = sorted((cars / "test").rglob("*.jpg"))[::12]
    looked = [look(file, list(COPIES.values())) for file in files]
    assert false_pairs([each[0] for each in looked]) == []
    for n, name in enumerate(COPIES, start=1):
        found = [agree(each[0], each[n]) for each in looked]
        assert sum(found) >= len(files) - 1, name  # of all 1,632: benchmarks/copies.py
