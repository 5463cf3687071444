// Print an answer as it is written, and what is kept: node llm_collect.mjs 'Why …?'.
// In a web page keep `ask`, and append each token to `textContent`.

const RECIPE = 'http://127.0.0.1:8000';

/** Call `show` with each token; throw an error unless the answer is complete and stored. */
export async function ask(prompt, show, signal) {
  const query = new URLSearchParams({ prompt });
  const response = await fetch(`${RECIPE}/answer?${query}`, { signal });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  for await (const { name, data } of events(response.body)) {
    if (name === 'token') show(data.text);
    if (name === 'failed') throw new Error(`${data.message} Stored: ${data.stored}.`);
    if (name === 'done' && !data.stored) throw new Error('It is not stored.');
    if (name === 'done') return data;
  }
  throw new Error('The connection was lost.');
}

/** Give the recipe's events, wherever the network has cut its bytes. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split('\n\n');
      rest = blocks.pop(); // It is complete when its empty line has come.
      for (const block of blocks) {
        const fields = new Map(block.split('\n').map((line) => line.split(/: (.*)/s, 2)));
        // A comment has no data: the recipe sends one after 15 silent seconds.
        if (fields.has('data')) {
          yield { name: fields.get('event'), data: JSON.parse(fields.get('data')) };
        }
      }
    }
  } finally {
    await reader.cancel(); // Whoever stops early closes the connection, and the bill.
  }
}

/** Give the last answers, the newest first. */
export async function past(limit) {
  const response = await fetch(`${RECIPE}/answers?limit=${limit}`);
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  return response.json();
}

if (globalThis.process?.argv[1]) {
  const prompt = process.argv.slice(2).join(' ') || 'Why is tea hot?';
  try {
    const done = await ask(prompt, (text) => process.stdout.write(text));
    console.log(`\nComplete: ${done.finish_reason}.`);
    for (const { status, usage, prompt } of await past(3)) {
      const about = usage.estimated ? 'about ' : '';
      const tokens = `${about}${usage.prompt_tokens} + ${usage.completion_tokens}`;
      console.log(`${status}: ${tokens} tokens, cost ${usage.cost ?? 'unknown'}, ${prompt}`);
    }
  } catch (error) {
    console.error(`\nNot complete, or not stored. ${error.message}`);
    process.exitCode = 1;
  }
}
