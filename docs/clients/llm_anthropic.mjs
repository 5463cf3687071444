// Print an answer as it is written, its thoughts apart: node llm_anthropic.mjs 'Why …?'.
// In a web page keep `ask`, and append each token to `textContent`.

const URL_OF_RECIPE = 'http://127.0.0.1:8000/answer';

/** Call `show` with each thought, token and tool; throw an error if it breaks off. */
export async function ask(prompt, show, signal) {
  const query = new URLSearchParams({ prompt });
  const response = await fetch(`${URL_OF_RECIPE}?${query}`, { signal });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  for await (const { name, data } of events(response.body)) {
    if (['thinking', 'token', 'tool'].includes(name)) show(name, data);
    if (name === 'failed') throw new Error(`${data.message} Try again: ${data.retryable}.`);
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

if (globalThis.process?.argv[1]) {
  const prompt = process.argv.slice(2).join(' ') || 'Why is tea hot?';
  const show = (name, data) => {
    if (name === 'thinking') process.stderr.write(data.text);
    if (name === 'token') process.stdout.write(data.text);
    if (name === 'tool') {
      console.log(`\nIt asks for ${data.name}: ${JSON.stringify(data.arguments)}`);
    }
  };
  try {
    const done = await ask(prompt, show);
    console.log(`\nComplete: ${done.finish_reason}.`);
  } catch (error) {
    console.error(`\nNot complete. ${error.message}`);
    process.exitCode = 1;
  }
}
