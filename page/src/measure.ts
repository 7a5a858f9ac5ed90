// Widths of texts in the fonts of the page, without laying them out.

const pen = document.createElement("canvas").getContext("2d");
const known = new Map<string, number>();

export function measurer(font: string): (text: string) => number {
  return (text) => {
    const key = `${font} ${text}`;
    let width = known.get(key);
    if (width === undefined) {
      if (pen && pen.font !== font) pen.font = font;
      width = pen ? pen.measureText(text).width : 8 * text.length;
      if (known.size > 200_000) known.clear();
      known.set(key, width);
    }
    return width;
  };
}

const family = "system-ui, sans-serif";
export const nameWidth = measurer(`600 15px ${family}`);
export const folderWidth = measurer(`13px ${family}`);
export const textWidth = measurer(`15px ${family}`);
