// Begin a long answer, and stop it by a request when ten tokens have come. It runs in
// Node 18 or newer. In a page keep `ask` and `stop`, and call them from its buttons.

const RECIPE = "http://127.0.0.1:8000";
const LOGIN = { Authorization: "Bearer ada" }; // The same for both requests.

/** Hands over each piece of an answer, and gives its last event or throws an Error. */
export async function ask(id, prompt, onText, signal) {
  const url = `${RECIPE}/generations/${id}?${new URLSearchParams({ prompt })}`;
  const response = await fetch(url, { method: "PUT", headers: LOGIN, signal });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  for await (const { event, data } of readEvents(response.body)) {
    if (event === "token") onText(data.text);
    else if (event !== "start") return { event, data };
  }
  throw new Error("The connection was lost.");
}

/** Asks to stop an answer; tells whether it is being stopped. */
export async function stop(id) {
  const url = `${RECIPE}/generations/${id}/cancel`;
  const response = await fetch(url, { method: "POST", headers: LOGIN });
  return response.status === 204;
}

/** Gives each event of the stream; a chunk may end anywhere, even inside a character. */
async function* readEvents(body) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    const blocks = text.split("\n\n"); // An empty line ends an event.
    text = blocks.pop(); // The rest of this event is still to come.
    for (const block of blocks) {
      const found = /^event: (.*)\ndata: (.*)$/.exec(block);
      if (found) yield { event: found[1], data: JSON.parse(found[2]) };
    }
  }
}

if (globalThis.process?.argv[1]) {
  const id = crypto.randomUUID();
  const closing = new AbortController();
  let tokens = 0;
  const show = async (text) => {
    process.stdout.write(text);
    tokens += 1;
    if (tokens !== 10) return;
    const stopped = await stop(id);
    console.log(`\n[Stop: ${stopped}]`);
    if (!stopped) closing.abort(); // Leaving stops it too, and needs no answer.
  };
  const prompt = "Tell a long story about tea.";
  const last = await ask(id, prompt, show, closing.signal);
  console.log(`\n${last.event}: ${JSON.stringify(last.data)}`);
}
