// Print a language model's answer as it is written: node llm_errors.mjs 'Why …?'.
// In a web page keep `ask`, and append each token to `textContent`.

const URL_OF_RECIPE = 'http://127.0.0.1:8000/answer';

/** Call `show` with each token; throw an error if the answer is not complete. */
export async function ask(prompt, show, signal) {
  const query = new URLSearchParams({ prompt });
  const response = await fetch(`${URL_OF_RECIPE}?${query}`, { signal });
  if (!response.ok) {
    const wait = response.headers.get('retry-after') ?? 'not said';
    throw new Error(`${await response.text()} Seconds to wait: ${wait}.`);
  }
  let provider;
  for await (const { name, data } of events(response.body)) {
    if (name === 'start') provider = data.provider;
    if (name === 'token') show(data.text);
    if (name === 'failed') throw new Error(`${data.message} Try again: ${data.retryable}.`);
    if (name === 'done') return { ...data, provider };
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

if (globalThis.process?.argv[1]) {
  const prompt = process.argv.slice(2).join(' ') || 'Why is tea hot?';
  try {
    const done = await ask(prompt, (text) => process.stdout.write(text));
    console.log(`\nComplete: ${done.finish_reason}, from ${done.provider}.`);
  } catch (error) {
    console.error(`\nNot complete. ${error.message}`);
    process.exitCode = 1;
  }
}
