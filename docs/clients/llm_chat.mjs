// Asks the chat a question and writes the answer as it comes. It runs in Node 18 or
// newer, and in a page of an origin that CHAT_ORIGINS names.

const URL = "http://127.0.0.1:8000/chat/stream";

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

/** Hands over each piece of an answer and gives the last event, or throws an Error. */
export async function ask(messages, onText, signal) {
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ messages });
  const response = await fetch(URL, { method: "POST", headers, body, signal });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  for await (const { event, data } of readEvents(response.body)) {
    if (event === "token") onText(data.text);
    if (event === "failed") throw new Error(`${data.status}: ${data.message}`);
    if (event === "done") return data;
  }
  throw new Error("The connection was lost.");
}

const write = (text) => globalThis.process?.stdout.write(text) ?? document.body.append(text);
const question = { role: "user", content: "Why is tea hot?" };
const done = await ask([question], write);
write(`\n${done.finish_reason}, ${done.tokens} tokens\n`);
