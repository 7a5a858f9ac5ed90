"""What parts are made of, and how light leaves them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from classify.samples.chance import Rng

METALS: dict[str, tuple[tuple[float, float, float], float]] = {  # linear colour, roughness
    "zinc": ((0.62, 0.65, 0.68), 0.28),
    "yellow zinc": ((0.66, 0.54, 0.28), 0.3),
    "galvanised": ((0.45, 0.47, 0.48), 0.6),
    "stainless": ((0.60, 0.58, 0.55), 0.14),
    "black oxide": ((0.055, 0.055, 0.06), 0.4),
    "brass": ((0.72, 0.50, 0.16), 0.22),
    "copper": ((0.68, 0.34, 0.20), 0.28),
}
MIRROR = 72  # cells along an edge of the map of what metal mirrors
RUST = np.array([0.23, 0.085, 0.03], np.float32)


@dataclass(frozen=True)
class Material:
    """How a surface looks: a metal of one colour, or a printed sheet.

    colour: (3,) linear. metal: 1 reflects its surroundings in its colour, 0 is matt.
    roughness: in [0, 1]. rust: share of the surface. grain: strength of fine unevenness.
    turned: strength of the grooves that a lathe leaves around the axis.
    texture: (h, w, 3) uint8 sRGB, in place of the colour.
    """

    colour: np.ndarray
    metal: float
    roughness: float
    rust: float
    grain: float
    turned: float
    texture: np.ndarray | None = None


def metal(rng: Rng) -> Material:
    """Some metal, perhaps a little rusty."""
    names = ["zinc", "zinc", "yellow zinc", "galvanised", "stainless", "black oxide", "brass"]
    name = str(rng.choice([*names, "copper"]))
    colour, roughness = METALS[name]
    rusts = name in ("zinc", "galvanised", "black oxide") and rng.random() < 0.3
    return Material(
        colour=np.array(colour, np.float32) * float(rng.uniform(0.85, 1.1)),
        metal=1.0,
        roughness=float(np.clip(roughness * rng.uniform(0.7, 1.4), 0.08, 0.8)),
        rust=float(rng.uniform(0.1, 0.5)) if rusts else 0.0,
        grain=float(rng.choice([0.0, rng.uniform(0.0, 0.035)])),
        turned=float(rng.uniform(0.0, 0.09)),
    )


def sheet(rng: Rng, texture: np.ndarray) -> Material:
    """Printed paper or cardboard."""
    white = np.ones(3, np.float32)
    glossy = float(rng.uniform(0.45, 0.9))
    return Material(white, 0.0, glossy, 0.0, float(rng.uniform(0.0, 0.03)), 0.0, texture)


@dataclass(frozen=True)
class Light:
    """One lamp, the sky, and what metal mirrors.

    direction: (3,) unit vector to the lamp. lamp, sky, ground: (3,) linear colours.
    boxes: (n, 3) unit vectors to bright windows around, widths: (n,) their size, glow: (n,).
    waves: (4,) where the surroundings are darker and lighter.
    """

    direction: np.ndarray
    lamp: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    boxes: np.ndarray
    widths: np.ndarray
    glow: np.ndarray
    waves: np.ndarray


def light(rng: Rng, ground: np.ndarray) -> Light:
    """Some light. ground: (3,) linear mean colour of what the part lies on."""
    height, around = np.radians(rng.uniform(28, 80)), rng.uniform(0, 2 * np.pi)
    direction = np.array(
        [np.cos(height) * np.cos(around), np.cos(height) * np.sin(around), np.sin(height)]
    )
    warmth = float(rng.uniform(-0.16, 0.2))
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    share = float(rng.uniform(0.35, 0.75))  # of the lamp in all light on the ground
    bright = float(rng.uniform(0.75, 1.25))
    count = int(rng.integers(2, 5))
    boxes = rng.normal(size=(count, 3))
    boxes[:, 2] = np.abs(boxes[:, 2]) + 0.2
    return Light(
        direction=direction.astype(np.float32),
        lamp=(bright * share / direction[2] * tint).astype(np.float32),
        sky=(bright * (1 - share) * np.array([1 - warmth * 0.5, 1, 1 + warmth * 0.5])).astype(
            np.float32
        ),
        ground=ground.astype(np.float32),
        boxes=(boxes / np.linalg.norm(boxes, axis=1, keepdims=True)).astype(np.float32),
        widths=rng.uniform(0.015, 0.12, count).astype(np.float32),
        glow=rng.uniform(0.5, 1.8, count).astype(np.float32),
        waves=rng.uniform(0, 6.3, 4).astype(np.float32),
    )


def unevenness(position: np.ndarray, rng: Rng, scale: float) -> np.ndarray:
    """Smooth noise in about [-1, 1] at positions (n, 3): waves that bend each other."""
    turns = rng.normal(size=(4, 3)).astype(np.float32) * scale
    phases = rng.uniform(0, 6.3, 4).astype(np.float32)
    first = np.sin(position @ turns[0] + phases[0])
    second = np.sin(position @ turns[1] + phases[1] + 1.5 * first)
    third = np.sin(position @ (turns[2] * 2.1) + phases[2] + 1.5 * second)
    return (second + 0.6 * third + 0.4 * first) / 1.6


def shaded(
    *,
    position: np.ndarray,
    axis: np.ndarray,
    normal: np.ndarray,
    view: np.ndarray,
    colour: np.ndarray | None,
    lit: np.ndarray,
    open_sky: np.ndarray,
    material: Material,
    lights: Light,
    rng: Rng,
) -> np.ndarray:
    """Colours of surface points, (n, 3) float32 linear.

    position: (n, 3), from the part's middle. axis: (3,) around which a lathe would have turned it.
    normal, view: (n, 3) unit, view towards the camera.
    colour: (n, 3) linear, of the texture if there is one. lit: (n,) share of the lamp that is seen.
    open_sky: (n,) share of the surroundings that is seen.
    """
    normal = _uneven(normal, position, axis, material, rng)
    facing = np.einsum("ij,ij->i", normal, view)
    lamp = np.clip(normal @ lights.direction, 0, 1) * lit
    upwards = 0.5 + 0.5 * normal[:, 2]
    bounce = lights.ground * (lights.sky + 0.4 * lights.lamp)
    around = upwards[:, None] * lights.sky + (1 - upwards)[:, None] * bounce
    diffuse = around * open_sky[:, None] + lamp[:, None] * lights.lamp
    mirrored = 2 * facing[:, None] * normal - view
    gleam = np.clip(mirrored @ lights.direction, 0, 1) ** np.float32(2 / material.roughness**2)
    shine = (gleam * lit * (0.12 / material.roughness))[:, None] * lights.lamp
    if not material.metal:
        base = material.colour if colour is None else colour
        return base * diffuse + shine * 0.06
    seen = _reflected(mirrored, lights, material.roughness, rng) * open_sky[:, None]
    rim = (1 - np.clip(facing, 0, 1)) ** 4
    tint = material.colour + (1 - material.colour) * (rim * 0.5)[:, None]
    matt = 0.8 * material.roughness
    metallic = tint * ((1 - 0.5 * matt) * seen + 0.5 * matt * diffuse + shine * 1.5)
    if material.rust:
        noise = unevenness(position, rng, 5.0) + 0.35 * rng.standard_normal(
            len(position), np.float32
        )
        rusty = np.clip((noise - 1.1 + 2.2 * material.rust) * 2, 0, 0.92)[:, None]
        metallic = metallic * (1 - rusty) + RUST * (1.6 + noise[:, None] * 0.5) * diffuse * rusty
    return metallic.astype(np.float32)


def _uneven(
    normal: np.ndarray, position: np.ndarray, axis: np.ndarray, material: Material, rng: Rng
) -> np.ndarray:
    """Normals (n, 3) that grain and the rings of a lathe have turned a little."""
    if material.grain:
        rough = rng.standard_normal(normal.shape, np.float32)
        normal = normal + rough * np.float32(material.grain)
    if material.turned:
        outwards = position - (position @ axis)[:, None] * axis
        radius = np.sqrt(np.einsum("ij,ij->i", outwards, outwards)) + np.float32(1e-3)
        a, b = np.float32(rng.uniform(60, 200)), np.float32(rng.uniform(20, 50))
        slope = np.sin(a * radius + 3 * np.sin(b * radius)) * np.float32(material.turned)
        normal = normal + outwards * (slope / radius)[:, None]
    return normal / np.sqrt(np.einsum("ij,ij->i", normal, normal))[:, None]


def _reflected(direction: np.ndarray, lights: Light, roughness: float, rng: Rng) -> np.ndarray:
    """What a mirror sees in directions (n, 3), looked up in a map of both half spaces."""
    steps = np.linspace(-1, 1, MIRROR, dtype=np.float32)
    x, y = np.meshgrid(steps, steps)
    z = np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))
    above = np.stack([x, y, z], -1).reshape(-1, 3)
    seen = surroundings(
        np.concatenate([above, above * np.array([1, 1, -1], np.float32)]), lights, roughness
    )
    dither = rng.random((len(direction), 2), np.float32)
    place = ((direction[:, :2] + 1) * (MIRROR / 2 - 0.5) + dither).astype(np.int32)
    place = np.clip(place, 0, MIRROR - 1)
    half = np.where(direction[:, 2] < 0, MIRROR**2, 0)
    return seen[half + place[:, 1] * MIRROR + place[:, 0]]


def surroundings(direction: np.ndarray, lights: Light, roughness: float) -> np.ndarray:
    """What a mirror sees in directions (n, 3): ground, a dark horizon, a sky with windows."""
    high = direction[:, 2]
    soft = 0.12 + roughness
    above = np.clip(0.5 + high / (2 * soft), 0, 1)
    a, b, c, d = lights.waves
    bands = np.sin(3.1 * direction[:, 0] + a) * np.sin(2.7 * direction[:, 1] + b)
    bands += 0.6 * np.sin(6 * direction[:, 0] + c) * np.sin(5 * high + d) * (1 - roughness)
    sky = 0.55 + 0.35 * high + 0.4 * bands * (1 - 0.5 * roughness)
    sky -= 0.45 * np.exp(-((high / (0.18 + 0.4 * roughness)) ** 2))
    for box, width, glow in zip(lights.boxes, lights.widths, lights.glow, strict=True):
        spread = width + 0.5 * roughness**2
        sky += glow * (width / spread) ** 0.5 * np.exp((direction @ box - 1) / spread)
    total = lights.sky + 0.5 * lights.lamp
    sky = np.clip(sky, 0.03, None) * above
    return sky[:, None] * total + (0.75 * (1 - above))[:, None] * lights.ground * total
