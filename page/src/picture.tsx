// A picture of the gallery. The service may refuse one, since its file is gone: the page says so.

import { useState } from "preact/hooks";
import { useSource } from "./hooks";

export function Picture({ path, alt, large }: { path: string; alt: string; large?: boolean }) {
  const source = useSource(path);
  const [broken, setBroken] = useState<string | null>(null);
  if (broken === path) return <span class="broken">no picture</span>;
  return (
    <img
      src={source} alt={alt} decoding="async" draggable={false}
      loading={large ? "eager" : "lazy"} onError={() => source && setBroken(path)}
    />
  );
}
