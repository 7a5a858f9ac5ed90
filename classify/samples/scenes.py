"""How a part lies, and from where it is seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from classify.samples.chance import Rng
from classify.samples.meshes import Mesh


@dataclass(frozen=True)
class Camera:
    """Where the camera stands, and which part of what it sees is the picture.

    place: (3,). axes: (3, 3), rows to the right, up and forwards. The picture is a square around
    `middle` (2,), in units of depth, `half` from its middle to its edge.
    """

    place: np.ndarray
    axes: np.ndarray
    middle: np.ndarray
    half: float

    def project(self, points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Points (n, 3) -> places (n, 2) in pixels, y down, and depths (n,)."""
        seen = (points - self.place) @ self.axes.T
        depth = np.maximum(seen[:, 2], 1e-3)
        flat = (seen[:, :2] / depth[:, None] - self.middle) / self.half
        return (flat * (1, -1) + 1) * (size / 2), depth

    def rays(self, size: int) -> np.ndarray:
        """Where the middle of each pixel looks, (size * size, 3) float32."""
        steps = ((np.arange(size) + 0.5) * 2 / size - 1) * self.half
        x, y = np.meshgrid(self.middle[0] + steps, self.middle[1] - steps)
        right, up, forwards = self.axes
        rays = x[..., None] * right + y[..., None] * up + forwards
        return rays.reshape(-1, 3).astype(np.float32)


def turn(axis: int, angle: float) -> np.ndarray:
    """The (3, 3) rotation about x, y or z."""
    c, s = float(np.cos(angle)), float(np.sin(angle))
    matrix = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[first, first] = matrix[second, second] = c
    matrix[first, second], matrix[second, first] = -s, s
    return matrix


def any_rotation(rng: Rng) -> np.ndarray:
    """A (3, 3) rotation, each as likely as any other."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def settled(vertices: np.ndarray) -> np.ndarray:
    """Tilt a long thing along x, so that both of its ends touch the ground: (3, 3)."""
    tilt = np.eye(3)
    for _ in range(2):
        points = vertices @ tilt.T
        left, right = points[points[:, 0] < 0], points[points[:, 0] >= 0]
        first, second = left[left[:, 2].argmin()], right[right[:, 2].argmin()]
        across = max(float(second[0] - first[0]), 1e-6)
        tilt = turn(1, float(np.arctan((second[2] - first[2]) / across))) @ tilt
    return tilt


def posed(mesh: Mesh, kind: str, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and shift (3,) that put the part on the ground, z = 0, around x = y = 0."""
    rotation = _POSES[kind](rng)
    if kind in ("bolt", "nut") and abs(rotation[2, 2]) < 1e-9:  # its axis is level
        rotation = settled(mesh.vertices @ rotation.T) @ rotation
    rotation = turn(2, float(rng.uniform(0, 2 * np.pi))) @ rotation
    points = mesh.vertices @ rotation.T
    low, high = points.min(0), points.max(0)
    shift = -(low + high) / 2
    shift[2] = -low[2]
    return rotation, shift


def _bolt_pose(rng: Rng) -> np.ndarray:
    chance = rng.random()
    if chance < 0.55:
        return turn(1, np.pi / 2) @ turn(2, float(rng.uniform(0, 2 * np.pi)))
    if chance < 0.7:
        return np.eye(3)
    return any_rotation(rng)


def _ring_pose(rng: Rng) -> np.ndarray:
    chance = rng.random()
    over = turn(0, np.pi) if rng.random() < 0.5 else np.eye(3)
    if chance < 0.5:
        return over
    standing = turn(1, np.pi / 2) @ turn(2, float(np.pi / 6 + np.pi / 3 * rng.integers(6)))
    if chance < 0.72:
        return standing @ over
    if chance < 0.85:  # leans, as on something that is not seen
        return turn(0, float(rng.uniform(-1, 1))) @ over
    return any_rotation(rng)


def _box_pose(rng: Rng) -> np.ndarray:
    sides = [np.eye(3)] * 5 + [turn(0, np.pi / 2), turn(1, np.pi / 2), turn(0, -np.pi / 2)]
    return sides[rng.integers(len(sides))]


def _bag_pose(rng: Rng) -> np.ndarray:
    over = turn(0, np.pi) if rng.random() < 0.4 else np.eye(3)
    if rng.random() < 0.75:
        return turn(0, float(rng.normal(0, 0.05))) @ turn(1, float(rng.normal(0, 0.05))) @ over
    return turn(1, float(-np.pi / 2 + rng.uniform(-0.35, 0.35))) @ over  # upright, leans


_POSES = {
    "bolt": _bolt_pose,
    "nut": _ring_pose,
    "washer": _ring_pose,
    "carton_box": _box_pose,
    "cement_bag": _bag_pose,
}


def camera(points: np.ndarray, rng: Rng) -> Camera:
    """A camera somewhere above the ground that sees all of the points (n, 3), or nearly all."""
    height = np.radians(float(rng.choice([rng.uniform(14, 45), rng.uniform(30, 86)])))
    distance = float(rng.uniform(3.2, 8.0))
    target = np.array([0, 0, points[:, 2].max() / 2])
    back = np.array([0, -np.cos(height), np.sin(height)])
    roll = turn(2, float(rng.normal(0, 0.09)))
    right = np.array([1.0, 0, 0])
    axes = roll @ np.stack([right, np.cross(back, right), -back])
    place = target + back * distance
    seen = (points - place) @ axes.T
    flat = seen[:, :2] / seen[:, 2:]
    low, high = flat.min(0), flat.max(0)
    share = float(rng.uniform(0.52, 0.93)) if rng.random() < 0.9 else float(rng.uniform(0.93, 1.08))
    half = float((high - low).max()) / 2 / share
    free = np.maximum(half - (high - low) / 2, 0) + 0.05 * half
    middle = (low + high) / 2 + rng.uniform(-0.8, 0.8, 2) * free
    return Camera(place, axes, middle, half)


def fullness(places: np.ndarray, faces: np.ndarray) -> float:
    """Area of what is seen of a part, as a share of the square around it; about.

    places: (v, 2) in pixels. It is small where a flat thing is seen from its edge.
    """
    a, b, c = (places[faces[:, n]] for n in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    return float(-area[area < 0].sum() / 2 / np.ptp(places, axis=0).max() ** 2)
