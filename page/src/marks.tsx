// The signs on buttons; the words for them are the buttons' names.

const PATHS = {
  large: "M3 8V3h5M16 3h5v5M21 16v5h-5M8 21H3v-5",
  like: "M12 4v16M4 12h16",
  unlike: "M4 12h16",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13zM15.5 15.5L21 21",
  close: "M5 5l14 14M19 5L5 19",
  left: "M15 4l-8 8l8 8",
  right: "M9 4l8 8l-8 8",
  camera: "M4 8h4l2-3h4l2 3h4v11H4zM12 10a3.2 3.2 0 1 0 0 6.4a3.2 3.2 0 0 0 0-6.4z",
  box: "M4 7V4h3M17 4h3v3M20 17v3h-3M7 20H4v-3M9 9h6v6H9z",
};

export function Mark({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg class="mark" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
