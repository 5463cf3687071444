// For a page of the same server as /events. EventSource connects again by itself.
const source = new EventSource("/events");

source.addEventListener("open", () => {
  // What happened while it was away is not sent later: load the orders anew here.
  show("listening");
});

source.addEventListener("order", (event) => {
  const order = JSON.parse(event.data);
  show(`order ${order.id} is ${order.state}`);
});

source.addEventListener("missed", (event) => {
  // This browser was too slow. Load the orders anew here as well.
  show(`missed ${JSON.parse(event.data).events} events`);
});

source.addEventListener("error", () => {
  const closed = source.readyState === EventSource.CLOSED;
  show(closed ? "the server said no" : "lost; connecting again");
});

function show(text) {
  const line = document.createElement("p");
  line.textContent = text;
  document.body.append(line);
}
