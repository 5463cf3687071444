// What the page shows of one order. The hook is a parameter, so that you can try others.
import { useState } from "react";
import type { OrderEvent } from "./stream";
import type { useStream } from "./useStream";

function text(event: OrderEvent): string {
  switch (event.type) {
    case "placed":
      return `placed: ${event.items.join(", ")}`;
    case "paid":
      return `paid: ${event.cents / 100} €`;
    case "shipped":
      return `shipped with ${event.carrier}, expected ${event.expected}`;
    case "delivered":
      return `delivered, signed by ${event.signed_by ?? "nobody"}`;
    default:
      return event satisfies never; // tsc: a type of the schema has no case
  }
}

export function Order({ id, use }: { id: number; use: typeof useStream }) {
  const [name, setName] = useState("Ada");
  const [told, setTold] = useState<string[]>([]);
  const { events, status, stop } = use(id, (event) => {
    setTold((earlier) => [...earlier, `${name}: ${event.type}`]);
  });
  return (
    <section>
      <p>
        Order {id}: <strong id="status">{status}</strong>{" "}
        <button onClick={stop} disabled={status !== "streaming"}>Stop</button>
      </p>
      <ol id="events">
        {events.map((event) => <li key={event.type}>{text(event)}</li>)}
      </ol>
      <p>
        <label>
          Tell <input value={name} onChange={(change) => setName(change.target.value)} />
        </label>
      </p>
      <ul id="told">
        {told.map((line, number) => <li key={number}>{line}</li>)}
      </ul>
    </section>
  );
}
