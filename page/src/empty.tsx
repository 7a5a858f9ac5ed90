// A gallery without pictures: how one indexes some. The page looks again by itself.

import { numberText } from "./names";

export function Empty({ failed }: { failed: number }) {
  return (
    <section class="empty">
      <h1>The gallery holds no pictures yet</h1>
      <p>Index a folder of pictures in a terminal. They appear here while they are indexed.</p>
      <pre><code>imgret index PICTURES/</code></pre>
      {failed > 0 && <p>{numberText(failed)} files could not be read. <code>imgret info --failed</code> says why.</p>}
    </section>
  );
}
