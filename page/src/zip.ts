// A zip of pictures, which are compressed already: each is stored as it is (APPNOTE 6.3.10).

export const MOST_ZIPPED_FILES = 500;
export const MOST_ZIPPED_BYTES = 500_000_000;

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

export function checksum(content: Uint8Array): number {
  let sum = 0xffffffff;
  for (const byte of content) sum = (sum >>> 8) ^ (TABLE[(sum ^ byte) & 255] as number);
  return (sum ^ 0xffffffff) >>> 0;
}

export function zipOf(files: { name: string; content: Uint8Array }[]): Blob {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let place = 0;
  for (const { name, content } of files) {
    const bytes = new TextEncoder().encode(name.replace(/[/\\]/g, "_"));
    const common = [
      [20, 2], [0x0800, 2], [0, 2], [0, 2], [33, 2], // UTF-8 names, stored, 1 January 1980
      [checksum(content), 4], [content.length, 4], [content.length, 4], [bytes.length, 2], [0, 2],
    ];
    const local = record([[0x04034b50, 4], ...common], bytes);
    directory.push(record([
      [0x02014b50, 4], [20, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [place, 4],
    ], bytes));
    parts.push(local, content);
    place += local.length + content.length;
  }
  const size = directory.reduce((sum, each) => sum + each.length, 0);
  const end = record([
    [0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [size, 4], [place, 4], [0, 2],
  ], new Uint8Array());
  return new Blob([...parts, ...directory, end] as BlobPart[], { type: "application/zip" });
}

function record(fields: number[][], tail: Uint8Array): Uint8Array {
  const size = fields.reduce((sum, field) => sum + (field[1] as number), 0);
  const bytes = new Uint8Array(size + tail.length);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [value, width] of fields as [number, number][]) {
    if (width === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += width;
  }
  bytes.set(tail, size);
  return bytes;
}
