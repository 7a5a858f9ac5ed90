// Where the service asks for a token. It is kept for as long as this tab lives.

import { setToken, type Refusal } from "./api";

export function TokenForm({ error, onToken }: { error: Refusal; onToken(): void }) {
  return (
    <main>
      <form class="token" onSubmit={(event) => {
        event.preventDefault();
        setToken(String(new FormData(event.target as HTMLFormElement).get("token") ?? "").trim());
        onToken();
      }}>
        <h1>imgret</h1>
        <p>{error.message}</p>
        <label>Token <input name="token" type="password" autocomplete="current-password" required /></label>
        <button class="plain">Open</button>
      </form>
    </main>
  );
}
