// For a page of the same server. A script cannot read the cookie, but sends it.
async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  return response.text();
}

function show(text) {
  const line = document.createElement("p");
  line.textContent = text;
  document.body.append(line);
}

// With the cookie, a browser comes back by itself when a stream has had its time.
function listen(address) {
  const source = new EventSource(address);
  source.addEventListener("order", (event) => show(`order ${JSON.parse(event.data).id}`));
  source.addEventListener("closed", (event) => {
    const { reason } = JSON.parse(event.data);
    show(`closed: ${reason}`);
    if (reason !== "lifetime") source.close(); // It would only meet a 401.
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) show("the server said no");
  });
  return source;
}

// A ticket has been used when the stream begins, so each stream needs another one.
async function listenByTicket() {
  const ticket = await post("/tickets");
  const source = listen(`/events?ticket=${encodeURIComponent(ticket)}`);
  source.addEventListener("closed", (event) => {
    source.close();
    if (JSON.parse(event.data).reason === "lifetime") listenByTicket();
  });
}
