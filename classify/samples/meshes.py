"""Surfaces as triangles: patches of a grid, turned, threaded and prismatic ones, joined."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

CIRCLE = 48
HEXAGONAL = 72


@dataclass(frozen=True)
class Mesh:
    """Triangles whose outside is the side from which their corners run counterclockwise.

    vertices, normals: (v, 3) float32. uv: (v, 2) float32, in pixels of the texture, if there is
    one. shade: (v,) float32 in [0, 1], how much of the light around reaches the vertex.
    faces: (f, 3) int.
    """

    vertices: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    shade: np.ndarray
    faces: np.ndarray


def joined_meshes(meshes: list[Mesh]) -> Mesh:
    """Join surfaces into one."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.uv for mesh in meshes]),
        np.concatenate([mesh.shade for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
    )


def centred(mesh: Mesh) -> Mesh:
    """Move a mesh to the origin, and scale its farthest vertex to distance 1."""
    vertices = mesh.vertices - (mesh.vertices.max(0) + mesh.vertices.min(0)) / 2
    return replace(mesh, vertices=vertices / np.sqrt((vertices**2).sum(1).max()))


def patch(
    points: np.ndarray,
    *,
    uv: np.ndarray | None = None,
    shade: np.ndarray | float = 1.0,
    closed: bool = False,
    flat: bool = False,
) -> Mesh:
    """A grid of points as a surface; its outside is d/dcolumn x d/drow.

    points: (m, n, 3). uv: (m, n, 2). shade: a number or (m, n). closed: the last column meets the
    first. flat: each quadrangle has a normal of its own, else normals follow the bend.
    """
    shades = np.broadcast_to(shade, points.shape[:2])
    if closed:
        points = np.concatenate([points, points[:, :1]], 1)
        shades = np.concatenate([shades, shades[:, :1]], 1)
    m, n = points.shape[:2]
    uv = np.zeros((m, n, 2)) if uv is None else uv
    cells = np.arange(m * n).reshape(m, n)
    corners = np.stack([cells[:-1, :-1], cells[:-1, 1:], cells[1:, 1:], cells[1:, :-1]], -1)
    corners = corners.reshape(-1, 4)
    vertices, uv, shades = points.reshape(-1, 3), uv.reshape(-1, 2), shades.reshape(-1)
    if flat:
        quads = vertices[corners]
        normals = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1]).repeat(4, 0)
        vertices, uv, shades = quads.reshape(-1, 3), uv[corners].reshape(-1, 2), shades[corners]
        corners = np.arange(len(vertices)).reshape(-1, 4)
    else:
        normals = _bent(points, closed=closed).reshape(-1, 3)
    length = np.sqrt((normals**2).sum(1, keepdims=True))
    normals = normals / np.maximum(length, 1e-12)
    faces = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    return Mesh(
        vertices.astype(np.float32),
        normals.astype(np.float32),
        uv.astype(np.float32),
        shades.reshape(-1).astype(np.float32),
        faces,
    )


def _bent(points: np.ndarray, *, closed: bool) -> np.ndarray:
    if closed:
        around = np.concatenate([points[:, -2:-1], points, points[:, 1:2]], 1)
        along = around[:, 2:] - around[:, :-2]
    else:
        along = np.gradient(points, axis=1)
    return np.cross(along, np.gradient(points, axis=0))


def angles(count: int) -> np.ndarray:
    """The (count,) float64: the circle in equal parts, from 0."""
    return np.arange(count) * (2 * np.pi / count)


def polygon(sides: int, around: np.ndarray) -> np.ndarray:
    """Distance to the edge of a regular polygon of inradius 1, at angles; a corner is at 0."""
    part = 2 * np.pi / sides
    return 1 / np.cos(around % part - part / 2)


def rings(radii: np.ndarray, heights: np.ndarray, around: np.ndarray) -> np.ndarray:
    """The (m, n, 3) points: radii (m, n) or (m, 1), heights (m, n) or (m, 1), angles (n,)."""
    shape = np.broadcast_shapes(radii.shape, (1, len(around)))
    points = np.empty((*shape, 3))
    points[..., 0] = radii * np.cos(around)
    points[..., 1] = radii * np.sin(around)
    points[..., 2] = heights
    return points


def turned_mesh(
    profile: list[tuple[float, float]],
    *,
    smooth: bool = False,
    shade: float = 1.0,
    section: np.ndarray | None = None,
    count: int = CIRCLE,
) -> Mesh:
    """What a profile of (radius, height) sweeps around the z axis; its outside lies to the right.

    section: (count,) factor of the radius at each angle, such as `polygon`.
    smooth: the profile is a curve, else it has a crease at each point.
    """
    around = angles(count)
    factor = np.ones(count) if section is None else section
    line = np.array(profile)
    points = rings(line[:, :1] * factor, line[:, 1:], around)
    if smooth:
        return patch(points, shade=shade, closed=True)
    flat = section is not None
    pieces = [points[n : n + 2] for n in range(len(line) - 1)]
    return joined_meshes([patch(piece, shade=shade, closed=True, flat=flat) for piece in pieces])


def prism(
    sides: int, inradius: float, low: float, high: float, *, rounded: tuple[bool, bool]
) -> Mesh:
    """The walls of a regular prism; `rounded` (low, high) ends are cut by a cone as a nut's are."""
    around = angles(HEXAGONAL)
    wall = inradius * polygon(sides, around)
    cut = (wall - 0.97 * inradius) / 1.9
    bottom = low + cut * rounded[0]
    top = high - cut * rounded[1]
    parts = [
        patch(
            rings(np.stack([wall, wall]), np.stack([bottom, top]), around), closed=True, flat=True
        )
    ]
    rim = np.full_like(wall, 0.97 * inradius)
    if rounded[0]:
        lower = rings(np.stack([rim, wall]), np.stack([np.full_like(wall, low), bottom]), around)
        parts.append(patch(lower, closed=True))
    if rounded[1]:
        upper = rings(np.stack([wall, rim]), np.stack([top, np.full_like(wall, high)]), around)
        parts.append(patch(upper, closed=True))
    return joined_meshes(parts)


def cap(outline: np.ndarray | float, hole: np.ndarray | float, height: float, *, up: bool) -> Mesh:
    """A flat ring between two radii, each a number or (HEXAGONAL,), that faces up or down."""
    around = angles(HEXAGONAL)
    outer, inner = (np.broadcast_to(radius, around.shape) for radius in (outline, hole))
    radii = np.stack([outer, (outer + inner) / 2, inner] if up else [inner, outer])
    return patch(rings(radii, np.full((len(radii), 1), height), around), closed=True, flat=True)


def thread(
    radius: float, low: float, high: float, *, pitch: float, depth: float, inward: bool = False
) -> Mesh:
    """A helical thread on a shank, or inward in a hole; radius is that of the crests' cylinder."""
    around = angles(26)
    heights = np.linspace(low, high, max(3, int((high - low) / pitch * 5) + 1))[:, None]
    turns = (heights / pitch - around / (2 * np.pi)) % 1
    groove = np.clip(1.5 * np.abs(2 * turns - 1) - 0.25, 0, 1)
    ends = np.clip(np.minimum(heights - low, high - heights) / pitch, 0, 1)
    groove = groove * ends
    if inward:
        points = rings(radius + depth * groove, heights, around)[::-1]
        deep = np.abs(2 * (heights[::-1] - low) / (high - low) - 1)
        return patch(points, shade=(0.45 + 0.4 * deep) * (1 - 0.3 * groove[::-1]), closed=True)
    points = rings(radius - depth * groove, heights, around)
    return patch(points, shade=1 - 0.55 * groove, closed=True)
