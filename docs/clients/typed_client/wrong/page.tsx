// Try a wrong hook: wrong.html?use=doubled, stale or perChunk.
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Order } from "../Order";
import { useStream } from "../useStream";
import * as doubled from "./doubled";
import * as perChunk from "./perChunk";
import * as stale from "./stale";

const hooks = new Map([
  ["doubled", doubled.useStream],
  ["stale", stale.useStream],
  ["perChunk", perChunk.useStream],
]);
const asked = new URLSearchParams(location.search).get("use") ?? "";
const use = hooks.get(asked) ?? useStream;

createRoot(document.querySelector("#root")!).render(<StrictMode><Order id={7} use={use} /></StrictMode>);
