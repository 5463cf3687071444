// Wrong: the effect runs once, and keeps `events` and `onEvent` of that render.
import { useEffect, useState } from "react";
import { orderEvents, type OrderEvent } from "../stream";
import type { Stream } from "../useStream";

export function useStream(orderId: number, onEvent?: (event: OrderEvent) => void): Stream {
  const [events, setEvents] = useState<OrderEvent[]>([]);

  useEffect(() => {
    const controller = new AbortController();
    async function read() {
      for await (const event of orderEvents(orderId, { signal: controller.signal })) {
        setEvents([...events, event]);
        onEvent?.(event);
      }
    }
    void read();
    return () => controller.abort();
  }, [orderId]);

  return { events, status: "streaming", stop: () => undefined };
}
