// Drive the iterator of docs/clients/typed_client/stream.ts, built as argv[2], with
// answers of our own; print what came of each case as JSON.
const { orderEvents, Refused } = await import(process.argv[2]);

const WHOLE =
  ': ping\n\ndata: {"type":"placed","items":["tea ☕","\u2028"]}\nid: 7-1\n\n' +
  'data: {"type":"paid","cents":1}\nid: 7-2\n\n' +
  'data: {"type":"delivered","signed_by":"Zoë"}\nid: 7-4\n\n';
const bytes = new TextEncoder().encode(WHOLE);
const STREAM = { "Content-Type": "text/event-stream; charset=utf-8" };
let closed = 0;

function body(...chunks) {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
}

function endless(first) {
  return new ReadableStream({
    start: (controller) => controller.enqueue(new TextEncoder().encode(first)),
    cancel: () => { closed += 1; },
  });
}

// Collect events; `answers` are given in turn, the last one for ever.
async function collect(answers, { stopAt, breakAt, before } = {}) {
  const asked = [];
  globalThis.fetch = async (url, { headers, signal }) => {
    asked.push(headers?.["Last-Event-ID"] ?? "");
    signal.throwIfAborted();
    const next = answers.length > 1 ? answers.shift() : answers[0];
    return typeof next === "function" ? next(signal) : next;
  };
  const stopping = new AbortController();
  if (before) before(stopping);
  const events = [];
  let error = null;
  try {
    const stream = orderEvents(7, { signal: stopping.signal, wait: 1 });
    if (before) setTimeout(() => stopping.abort(), 5);
    for await (const event of stream) {
      events.push(event);
      if (events.length === stopAt) stopping.abort();
      if (events.length === breakAt) break;
    }
  } catch (caught) {
    error = `${caught instanceof Refused ? "Refused" : caught.name}: ${caught.message}`;
  }
  return { types: events.map((event) => event.type), asked, error, events };
}

const answer = (text, options = {}) => () => new Response(text, { headers: STREAM, ...options });
const found = {};

// Every place where the network can cut the stream in two, and a byte at a time.
const whole = JSON.stringify((await collect([answer(WHOLE)])).events);
found.whole = JSON.parse(whole);
found.splits = 0;
for (let place = 1; place < bytes.length; place++) {
  const halves = body(bytes.slice(0, place), bytes.slice(place));
  const { events } = await collect([() => new Response(halves, { headers: STREAM })]);
  found.splits += JSON.stringify(events) === whole ? 1 : 0;
}
found.places = bytes.length - 1;
const single = body(...Array.from(bytes, (byte) => Uint8Array.of(byte)));
found.single = (await collect([() => new Response(single, { headers: STREAM })])).types;

// Every place where the connection can end.
found.cuts = 0;
for (let place = 0; place < bytes.length; place++) {
  const cut = () => new Response(bytes.slice(0, place), { headers: STREAM });
  const rest = (signal, last) => WHOLE.slice(WHOLE.indexOf("\n\n", WHOLE.indexOf(last)) + 2);
  const asked = [];
  globalThis.fetch = async (_, { headers }) => {
    const last = headers?.["Last-Event-ID"];
    asked.push(last);
    if (asked.length === 1) return cut();
    return new Response(last ? rest(null, `id: ${last}`) : WHOLE, { headers: STREAM });
  };
  const events = [];
  const { signal } = new AbortController();
  for await (const event of orderEvents(7, { signal, wait: 1 })) events.push(event);
  found.cuts += JSON.stringify(events) === whole ? 1 : 0;
}

const first = 'data: {"type":"placed","items":[]}\nid: 7-1\n\n';
const two = first + 'data: {"type":"paid","cents":1}\nid: 7-2\n\n';
const gone = () => { throw new TypeError("fetch failed"); };
found.recovers = await collect([answer("", { status: 503 }), gone, answer(WHOLE)]);
found.gives_up = await collect([gone]);
found.gives_up_on_500 = await collect([answer("", { status: 500 })]);
found.counts_anew = await collect([gone, gone, gone, gone, answer(first), gone, gone, gone, answer(WHOLE)]);
found.refused = await collect([answer("", { status: 422 })]);
found.no_stream = await collect([() => new Response("<html>", { headers: { "Content-Type": "text/html" } })]);
found.complete = await collect([answer(first), () => new Response(null, { status: 204 })]);
found.no_json = await collect([answer("data: {nonsense\n\n")]);
found.no_object = await collect([answer("data: null\n\n")]);
found.unknown = await collect([answer('data: {"type":"toString"}\nid: 7-9\n\ndata: {"type":3}\n\n' + WHOLE)]);
found.stopped = await collect([() => new Response(endless(two), { headers: STREAM })], { stopAt: 1 });
const open = () => new Response(endless(two), { headers: STREAM });
closed = 0;
found.left = await collect([open], { breakAt: 1 });
found.left.closed = closed;
found.before = await collect([answer(WHOLE)], { before: (stopping) => stopping.abort() });
found.while_waiting = await collect([gone], { before: () => undefined });
console.log(JSON.stringify(found));
