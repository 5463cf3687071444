// Print three orders and leave, in a page or in Node.js 18 or newer.

const leaving = new AbortController();
const response = await fetch("http://127.0.0.1:8000/native", {
  signal: leaving.signal,
});
if (!response.ok) {
  throw new Error(`${response.status}: ${await response.text()}`);
}

const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
let text = "";
while (text.split("\n\n").length <= 3) {
  const { value, done } = await reader.read();
  if (done) throw new Error("The feed has ended.");
  text += value;
}
console.log(text.trim());
leaving.abort(); // Without it, the connection stays open and the server goes on.
console.log("Left.");
