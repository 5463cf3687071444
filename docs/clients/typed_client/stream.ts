// Read the events of one order, in a page or in Node.js 20 or newer.
import { EventSourceParserStream } from "eventsource-parser/stream";
import type { EventSourceMessage } from "eventsource-parser";
import type { paths } from "./schema";

type Answers = paths["/orders/{order_id}/events"]["get"]["responses"];
export type OrderEvent = Answers[200]["content"]["text/event-stream"];

// Whether an event of this type is the last one. tsc wants each type of the schema here.
const IS_LAST: Record<OrderEvent["type"], boolean> = {
  placed: false,
  paid: false,
  shipped: false,
  delivered: true,
};
const TRIES = 5; // connections in a row that bring no event
const LONGEST = 30_000; // milliseconds between two of them

// What another try would not mend.
export class Refused extends Error {}

export interface Options {
  signal: AbortSignal; // abort it to stop
  server?: string; // where the server is, if it is not the page's own
  lastId?: string; // of an event that you have already
  wait?: number; // milliseconds before the first reconnect
}

// Types are gone at run time. This checks the JSON and the type; the fields it trusts.
function parsed(data: string): OrderEvent | undefined {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    throw new Refused("An event is no JSON.");
  }
  if (typeof value !== "object" || value === null || !("type" in value)) {
    throw new Refused("An event has no type.");
  }
  // A server that is newer than this page may send a type that the page does not know.
  const known = typeof value.type === "string" && Object.hasOwn(IS_LAST, value.type);
  return known ? (value as OrderEvent) : undefined;
}

// Ask for what comes after the event with this id.
async function connect(url: string, lastId: string, signal: AbortSignal): Promise<Response> {
  const headers = lastId ? { "Last-Event-ID": lastId } : undefined;
  const response = await fetch(url, { headers, signal, cache: "no-store" });
  if (response.status >= 500) throw new Error(`The server answered ${response.status}.`);
  if (!response.ok) throw new Refused(`The server answered ${response.status}.`);
  return response;
}

// The messages of one answer, however the network has cut them into chunks.
async function* messages(response: Response): AsyncGenerator<EventSourceMessage> {
  const type = response.headers.get("Content-Type") ?? "";
  if (!response.body || !type.startsWith("text/event-stream")) {
    await response.body?.cancel();
    throw new Refused("The answer is no event stream.");
  }
  const reader = response.body
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream())
    .getReader();
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    // Whoever leaves the loop early closes the connection.
    await reader.cancel().catch(() => undefined);
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", over);
      resolve();
    };
    const timer = setTimeout(over, milliseconds);
    signal.addEventListener("abort", over);
  });
}

// Every event of an order, each once, up to its last or to your abort. A connection that
// breaks is opened again, and goes on after the last event that came.
export async function* orderEvents(
  orderId: number,
  { signal, server = "", lastId = "", wait = 1000 }: Options,
): AsyncGenerator<OrderEvent, void> {
  const url = `${server}/orders/${orderId}/events`;
  let failed = 0;
  await Promise.resolve(); // Who aborts in the same moment has asked for nothing.
  while (!signal.aborted) {
    try {
      const response = await connect(url, lastId, signal);
      if (response.status === 204) return; // You have the last event.
      for await (const message of messages(response)) {
        if (signal.aborted) return;
        failed = 0;
        const event = parsed(message.data);
        if (event) yield event;
        if (event && IS_LAST[event.type]) return;
        lastId = message.id ?? lastId;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused || failed + 1 >= TRIES) throw error;
    }
    const longest = Math.min(wait * 2 ** failed, LONGEST);
    failed += 1;
    await pause(longest * (0.5 + Math.random() / 2), signal);
  }
}
