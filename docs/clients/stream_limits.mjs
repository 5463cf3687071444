// Sign in, print orders as they arrive, and come back when a stream has had its time.
// Runs in Node 18 or newer; in a browser the same code works on a page of the server.

const URL = "http://127.0.0.1:8000";
const wait = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

async function checked(response) {
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  return response;
}

// Prints the events of one stream, and gives the reason of the last one.
async function print(response) {
  let rest = "";
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop(); // An event may begin in one chunk and end in another.
    for (const block of blocks) {
      const [, event, data] = block.match(/^event: (.*)\ndata: (.*)$/) ?? [];
      if (event) console.log(event, data); // Anything else is a ping.
      if (event === "closed") return JSON.parse(data).reason;
    }
  }
  throw new Error("The stream broke off.");
}

const headers = { "Content-Type": "application/json" };
const body = JSON.stringify({ name: "ada" });
const signIn = await checked(await fetch(`${URL}/sign-in`, { method: "POST", headers, body }));
const token = await signIn.text();

let reason = "lifetime";
while (reason === "lifetime") {
  const response = await fetch(`${URL}/events`, {
    headers: { Authorization: `Bearer ${token}` },
  });
  if (response.status === 401) {
    reason = "expired"; // between two streams
  } else if (response.status === 429) {
    const seconds = Number(response.headers.get("Retry-After"));
    console.log(`429: come back in ${seconds} s`);
    await wait(seconds);
  } else {
    reason = await print(await checked(response));
  }
}
console.log("The session is over: sign in again.");
