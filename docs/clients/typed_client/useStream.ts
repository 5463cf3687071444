// Follow an order in a React component. Needs React 19.2 or newer, for useEffectEvent.
import { useEffect, useEffectEvent, useRef, useState } from "react";
import { orderEvents, type OrderEvent } from "./stream";

export type Status = "streaming" | "complete" | "stopped" | "failed";

export interface Stream {
  events: OrderEvent[];
  status: Status;
  stop: () => void;
}

export function useStream(orderId: number, onEvent?: (event: OrderEvent) => void): Stream {
  const [events, setEvents] = useState<OrderEvent[]>([]);
  const [status, setStatus] = useState<Status>("streaming");
  const running = useRef<AbortController>(null);
  // Calls the onEvent of the latest render; a new one does not start the effect again.
  const tell = useEffectEvent((event: OrderEvent) => onEvent?.(event));

  useEffect(() => {
    const controller = new AbortController(); // one for each run of the effect
    const { signal } = controller;
    running.current = controller;
    setEvents([]);
    setStatus("streaming");

    async function read() {
      try {
        for await (const event of orderEvents(orderId, { signal })) {
          if (signal.aborted) return;
          setEvents((earlier) => [...earlier, event]);
          tell(event);
        }
        if (!signal.aborted) setStatus("complete");
      } catch {
        if (!signal.aborted) setStatus("failed");
      }
    }
    void read();
    return () => controller.abort(); // The component is gone, or has another order.
  }, [orderId]);

  function stop() {
    if (status !== "streaming") return;
    running.current?.abort();
    setStatus("stopped");
  }

  return { events, status, stop };
}
