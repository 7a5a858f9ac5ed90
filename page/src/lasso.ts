// Which points lie within a line that was drawn around them.

export interface Spot {
  x: number;
  y: number;
}

/** Count how often a ray to the right crosses the line: an odd number of times from within. */
export function isWithin(line: Spot[], spot: Spot): boolean {
  let within = false;
  let before = line[line.length - 1];
  for (const now of line) {
    if (before && now.y > spot.y !== before.y > spot.y) {
      const crossing = now.x + ((before.x - now.x) * (spot.y - now.y)) / (before.y - now.y);
      if (spot.x < crossing) within = !within;
    }
    before = now;
  }
  return within;
}
