"""A picture of one part: its mesh, put on a ground, in some light, seen by some camera."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from classify.samples.backgrounds import TILE, background
from classify.samples.bags import cement_bag
from classify.samples.cartons import carton
from classify.samples.chance import Rng
from classify.samples.fasteners import bolt, nut, washer
from classify.samples.materials import Light, Material, light, metal, shaded, sheet
from classify.samples.meshes import Mesh, centred
from classify.samples.rasters import Hits, mask, nearest_sample
from classify.samples.scenes import Camera, camera, fullness, posed

FASTENERS: dict[str, Callable[[Rng], Mesh]] = {"bolt": bolt, "nut": nut, "washer": washer}
PACKAGE_MESHES: dict[str, Callable[[Rng], tuple[Mesh, np.ndarray]]] = {
    "carton_box": carton,
    "cement_bag": cement_bag,
}
FINER = 2  # pixels of the drawing along one of the picture
SHADOW = 144
PLACEMENTS_TRIED = 8
FULL = {"bolt": 0.12, "nut": 0.2, "washer": 0.14, "carton_box": 0.2, "cement_bag": 0.27}
LINEAR = (np.arange(256, dtype=np.float32) / 255) ** 2  # sRGB, nearly; quick to undo


def render_scene(kind: str, size: int, rng: Rng) -> tuple[Image.Image, np.ndarray]:
    """A picture of one part, (size, size) RGB, and how much of each pixel the part covers.

    kind: a key of FASTENERS or PACKAGES. Returns the picture and (size, size) float32 in [0, 1].
    """
    mesh, material = _part(kind, rng)
    mesh = centred(mesh)
    for _ in range(PLACEMENTS_TRIED):
        rotation, shift = posed(mesh, kind, rng)
        vertices = (mesh.vertices @ rotation.T + shift).astype(np.float32)
        seen = camera(vertices, rng)
        if fullness(seen.project(vertices, size)[0], mesh.faces) > FULL[kind]:
            break
    normals = (mesh.normals @ rotation.T).astype(np.float32)
    tile = background(rng)
    lights = light(rng, (tile[::7, ::7] ** 2).mean((0, 1)))
    ground = _ground(seen, size, tile, lights, rng)
    ground *= _shadows(vertices, mesh.faces, seen, size, lights, rng)
    places, depth = seen.project(vertices, size * FINER)
    hits, pixel, cover = _sampled(nearest_sample(places, 1 / depth, mesh.faces, size * FINER), size)
    point, normal, uv, shade = _interpolated(hits, mesh, vertices, normals)
    colours = shaded(
        position=point - shift.astype(np.float32),
        axis=rotation[:, 2].astype(np.float32),
        normal=normal,
        view=_towards(seen, point),
        colour=_printed(material, uv),
        lit=_lit(point, normal, vertices, mesh.faces, lights, rng) * np.sqrt(shade),
        open_sky=shade * (1 - 0.65 * np.exp(-point[:, 2] / 0.18) * (0.5 - 0.5 * normal[:, 2])),
        material=material,
        lights=lights,
        rng=rng,
    )
    part, share = _averaged(pixel, _toned(colours), size), cover.reshape(size, size, 1)
    whole = _unsharp(_toned(ground), rng) * (1 - share) + part * share
    return _photograph(whole, rng), share[..., 0]


def _part(kind: str, rng: Rng) -> tuple[Mesh, Material]:
    if kind in FASTENERS:
        return FASTENERS[kind](rng), metal(rng)
    mesh, texture = PACKAGE_MESHES[kind](rng)
    return mesh, sheet(rng, texture)


def _ground(seen: Camera, size: int, tile: np.ndarray, lights: Light, rng: Rng) -> np.ndarray:
    """The ground, lit, and far away a wall into which it fades: (size, size, 3) linear."""
    rays = seen.rays(size)
    falls = np.minimum(rays[:, 2], -1e-3)
    reach = np.minimum(np.float32(-seen.place[2]) / falls, 1e3)
    x = np.float32(seen.place[0]) + rays[:, 0] * reach
    y = np.float32(seen.place[1]) + rays[:, 1] * reach
    density = TILE / float(rng.uniform(2.2, 5.0))
    angle = float(rng.choice([0.0, rng.uniform(0, 2 * np.pi)]))
    across = (np.cos(angle) * x - np.sin(angle) * y) * density
    along = (np.sin(angle) * x + np.cos(angle) * y) * density
    start = rng.uniform(0, TILE, 2)
    places = _folded(along + float(start[0])) * TILE + _folded(across + float(start[1]))
    colours = tile.reshape(-1, 3)[places] ** 2
    wall = lights.ground * float(rng.uniform(0.4, 1.3)) * (1 + 0.25 * rays[:, 2:3])
    far = np.clip((y - 2.5) / 5, 0, 1)[:, None]
    far = np.where(rays[:, 2:3] > -2e-3, 1, far) ** 0.7
    lit = lights.sky + lights.lamp * lights.direction[2]
    picture = ((colours * (1 - far) + wall * far) * lit).astype(np.float32)
    return picture.reshape(size, size, 3)


def _unsharp(picture: np.ndarray, rng: Rng) -> np.ndarray:
    """The ground as a lens that is focused on the part sees it; hides the texture's pixels."""
    image = Image.fromarray((picture * 255).astype(np.uint8))
    radius = float(rng.uniform(0.5, 1.4)) * len(picture) / 224
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def _folded(place: np.ndarray) -> np.ndarray:
    """Indices into a tile that is mirrored at its edges."""
    index = np.floor(place).astype(np.int32) % (2 * TILE)
    return np.where(index < TILE, index, 2 * TILE - 1 - index)


def _shadows(
    vertices: np.ndarray, faces: np.ndarray, seen: Camera, size: int, lights: Light, rng: Rng
) -> np.ndarray:
    """Share of the light that reaches the ground: (size, size, 3)."""
    half = max(8, size // 2)
    spread = float(rng.uniform(0.03, 0.16))
    sums = []
    for count, towards, width in ((3, lights.direction, spread), (2, np.array([0, 0, 1.0]), 0.6)):
        total = np.zeros((half, half), np.float32)
        for n in range(count):
            angle = 2 * np.pi * (n + 0.3) / count
            aside = width * np.array([np.cos(angle), np.sin(angle), 0])
            direction = towards + aside
            direction = direction / max(direction[2], 0.2)
            cast = vertices - vertices[:, 2:] * direction
            places, depth = seen.project(cast.astype(np.float32), half)
            clear = faces if depth.min() > 0.05 else faces[(depth[faces] > 0.05).all(1)]
            total += mask(places, clear, half)
        sums.append(_blurred(total / count, size, 0.006 * half if width == spread else 0.03 * half))
    lamp, sky = sums
    direct = lights.lamp * lights.direction[2]
    left = direct * (1 - lamp[..., None]) + lights.sky * (1 - 0.75 * sky[..., None])
    return left / (direct + lights.sky)


def _blurred(values: np.ndarray, size: int, radius: float) -> np.ndarray:
    picture = Image.fromarray((values * 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(max(0.6, radius)))
    resized = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float32) / 255


def _interpolated(
    hits: Hits, mesh: Mesh, vertices: np.ndarray, normals: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return point (n, 3), unit normal (n, 3), uv (n, 2) and shade (n,) of each covered pixel."""
    packed = np.concatenate([vertices, normals, mesh.shade[:, None], mesh.uv], 1)
    corners = mesh.faces[hits.faces]
    values = packed[corners[:, 0]] * hits.weights[:, :1]
    values += packed[corners[:, 1]] * hits.weights[:, 1:2]
    values += packed[corners[:, 2]] * hits.weights[:, 2:]
    normal = values[:, 3:6]
    normal = normal / np.sqrt(np.einsum("ij,ij->i", normal, normal) + 1e-9)[:, None]
    return values[:, :3], normal, values[:, 7:], values[:, 6]


def _towards(seen: Camera, point: np.ndarray) -> np.ndarray:
    view = seen.place.astype(np.float32) - point
    return view / np.sqrt(np.einsum("ij,ij->i", view, view))[:, None]


def _printed(material: Material, uv: np.ndarray) -> np.ndarray | None:
    """Look up the texture's linear colours at uv (n, 2): (n, 3); None without a texture."""
    if material.texture is None:
        return None
    high, wide = material.texture.shape[:2]
    x = np.clip(uv[:, 0] + 0.5, 0, wide - 1).astype(np.int32)
    y = np.clip(uv[:, 1] + 0.5, 0, high - 1).astype(np.int32)
    return LINEAR[material.texture[y, x]]


def _lit(
    point: np.ndarray,
    normal: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    lights: Light,
    rng: Rng,
) -> np.ndarray:
    """Share of the lamp that points (n, 3) of the part see past the rest of it: 0 or 1."""
    forwards = -lights.direction.astype(float)
    right = np.cross(forwards, [0, 0, 1.0])
    right /= max(np.linalg.norm(right), 1e-6)
    axes = np.stack([right, np.cross(right, forwards), -forwards]).astype(np.float32)
    turned = vertices @ axes.T
    low = turned.min(0) - 0.01
    scale = SHADOW / float((turned.max(0) - low)[:2].max() + 0.02)
    places = (turned[:, :2] - low[:2]) * scale
    places[:, 1] = SHADOW - places[:, 1]
    hits = nearest_sample(places, turned[:, 2], faces, SHADOW)
    front = np.full(SHADOW * SHADOW, -9, np.float32)
    front[hits.pixels] = hits.nearness
    own = (point + 0.02 * normal) @ axes.T
    place = (own[:, :2] - low[:2]) * scale + rng.uniform(-1, 1, (len(own), 2)).astype(np.float32)
    x = np.clip(place[:, 0], 0, SHADOW - 1).astype(int)
    y = np.clip(SHADOW - place[:, 1], 0, SHADOW - 1).astype(int)
    return (own[:, 2] > front[y * SHADOW + x] - 0.015).astype(np.float32)


def _sampled(hits: Hits, size: int) -> tuple[Hits, np.ndarray, np.ndarray]:
    """Choose the fine pixels whose colour is worked out: two of the four in each pixel.

    Returns their hits, the pixel of the picture that each is in, (n,), and how much of each pixel
    the part covers, (size * size,) float32.
    """
    row, column = np.divmod(hits.pixels, size * FINER)
    pixel = row // FINER * size + column // FINER
    cover = np.bincount(pixel, minlength=size * size).astype(np.float32) / FINER**2
    diagonal = (row + column) % 2 == 0
    some = np.bincount(pixel[diagonal], minlength=size * size) > 0
    kept = np.flatnonzero(diagonal | ~some[pixel])
    parts = hits.pixels[kept], hits.faces[kept], hits.weights[kept], hits.nearness[kept]
    return Hits(*parts), pixel[kept], cover


def _averaged(pixel: np.ndarray, colours: np.ndarray, size: int) -> np.ndarray:
    """Mean colour of the part in each pixel: (size, size, 3) float32."""
    counts = np.maximum(np.bincount(pixel, minlength=size * size), 1)
    sums = [np.bincount(pixel, colours[:, n], size * size) for n in range(3)]
    return (np.stack(sums, 1) / counts[:, None]).astype(np.float32).reshape(size, size, 3)


def _toned(linear: np.ndarray) -> np.ndarray:
    """Linear light -> sRGB in [0, 1]; highlights are compressed rather than cut."""
    light = 1.25 * np.maximum(linear, 0)
    return np.sqrt(np.minimum(light * (1 + light / 6) / (1 + light * 0.6), 1))


def _photograph(whole: np.ndarray, rng: Rng) -> Image.Image:
    """What a camera makes of it: dark corners, a little blur and noise."""
    size = len(whole)
    steps = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    dark = 1 - float(rng.uniform(0, 0.13)) * (steps[:, None] + steps[None])
    sharp = Image.fromarray((np.clip(whole * dark[..., None], 0, 1) * 255).astype(np.uint8))
    if rng.random() < 0.5:
        blur = float(rng.uniform(0.2, 0.9)) * size / 224
        sharp = sharp.filter(ImageFilter.GaussianBlur(blur))
    strength = float(rng.uniform(0.5, 5.0))
    grey = rng.standard_normal((size, size, 1), np.float32) * np.float32(0.7 * strength)
    noise = rng.standard_normal(whole.shape, np.float32) * np.float32(0.5 * strength) + grey
    return Image.fromarray(np.clip(np.asarray(sharp) + noise, 0, 255).astype(np.uint8))
