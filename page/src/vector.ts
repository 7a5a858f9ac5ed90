// An embedding as letters of an address: a byte a number, which changes a cosine by less than 0.001.

export function packed(embedding: number[]): string {
  const most = Math.max(...embedding.map(Math.abs)) || 1;
  const bytes = embedding.map((value) => Math.round((127 * value) / most) & 255);
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

export function unpacked(text: string): number[] {
  try {
    const bytes = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return [...bytes].map((sign) => (sign.charCodeAt(0) << 24) >> 24);
  } catch {
    return [];
  }
}
