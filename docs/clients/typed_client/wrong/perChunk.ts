// Wrong: it takes each chunk for one event. On your own machine that is often so.
import { useEffect, useState } from "react";
import type { OrderEvent } from "../stream";
import type { Status, Stream } from "../useStream";

export function useStream(orderId: number): Stream {
  const [events, setEvents] = useState<OrderEvent[]>([]);
  const [status, setStatus] = useState<Status>("streaming");

  useEffect(() => {
    const controller = new AbortController();
    async function read() {
      const response = await fetch(`/orders/${orderId}/events`, { signal: controller.signal });
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
      for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
        const data = chunk.value.slice("data: ".length, chunk.value.indexOf("\nid:"));
        const event = JSON.parse(data) as OrderEvent;
        setEvents((earlier) => [...earlier, event]);
      }
    }
    read().catch(() => setStatus(controller.signal.aborted ? "stopped" : "failed"));
    return () => controller.abort();
  }, [orderId]);

  return { events, status, stop: () => undefined };
}
