// Wrong: nothing ends the stream, so StrictMode has two of them.
import { useEffect, useState } from "react";
import { orderEvents, type OrderEvent } from "../stream";
import type { Stream } from "../useStream";

export function useStream(orderId: number): Stream {
  const [events, setEvents] = useState<OrderEvent[]>([]);

  useEffect(() => {
    async function read() {
      const { signal } = new AbortController();
      for await (const event of orderEvents(orderId, { signal })) {
        setEvents((earlier) => [...earlier, event]);
      }
    }
    void read();
  }, [orderId]);

  return { events, status: "streaming", stop: () => undefined };
}
