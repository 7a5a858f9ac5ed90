import { render } from "preact";
import { App } from "./app";
import "./page.css";

const place = document.getElementById("page");
if (place) render(<App />, place);

// Drawn here, since the policy of the page allows no data: address.
const icon = document.createElement("link");
icon.rel = "icon";
icon.href = URL.createObjectURL(new Blob([
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0b63ce"/>',
  '<circle cx="14" cy="14" r="7" fill="none" stroke="#fff" stroke-width="3"/><path d="M19 19l7 7" stroke="#fff" stroke-width="3"/></svg>',
], { type: "image/svg+xml" }));
document.head.append(icon);
