// Keep all changes in this page, up to date. Runs in any page of the same server.

const changes = new Map(); // by id
const source = new EventSource("/feed");

source.addEventListener("change", (event) => {
  changes.set(event.lastEventId, JSON.parse(event.data));
  console.log(`${changes.size} changes; the newest is ${event.data}`);
});

// The server does not know what we have seen: forget it, everything comes again.
source.addEventListener("reset", () => changes.clear());

source.addEventListener("error", () => {
  const closed = source.readyState === EventSource.CLOSED;
  console.log(closed ? "The server said no." : "Lost; connecting again.");
});
