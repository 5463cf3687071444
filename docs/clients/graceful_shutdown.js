// For a page of the same server as /native. EventSource keeps the id and the wait of the
// farewell, and connects again by itself, also while nobody listens on the port yet.
let lastId = "";

function connect() {
  const source = new EventSource(`/native?after=${lastId}`);

  source.addEventListener("order", (event) => {
    lastId = event.lastEventId;
    show(`order ${lastId}: ${JSON.parse(event.data).item}`);
  });

  source.addEventListener("farewell", () => {
    show("the server is being replaced");
  });

  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) return; // It connects again.
    // A proxy has answered 502 meanwhile. A new EventSource knows no id: hence `after`.
    setTimeout(connect, 1000 + 2000 * Math.random());
  });
}

function show(text) {
  const line = document.createElement("p");
  line.textContent = text;
  document.body.append(line);
}

connect();
