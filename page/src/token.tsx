// Where the service asks for a token. It is kept for as long as this tab lives.

import { setToken, wasTokenRefused } from "./api";

export function TokenForm({ onToken }: { onToken(): void }) {
  return (
    <main>
      <form class="token" onSubmit={(event) => {
        event.preventDefault();
        setToken(String(new FormData(event.target as HTMLFormElement).get("token") ?? "").trim());
        onToken();
      }}>
        <h1>imgret</h1>
        <p>This service asks for a token. Who runs it can tell you one.</p>
        {wasTokenRefused() && <p class="wrong-text" role="alert">The token is not one of this service.</p>}
        <label>Token <input name="token" type="password" autocomplete="current-password" required /></label>
        <button class="plain">Open</button>
      </form>
    </main>
  );
}
