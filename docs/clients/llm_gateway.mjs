// Ask a gateway without a library: node llm_gateway.mjs 'Why …?'.

const GATEWAY = 'http://127.0.0.1:8000';
const KEY = globalThis.process?.env.GATEWAY_KEY ?? 'not-needed';

/** Call `show` with each piece of text; throw an error if the answer is not complete. */
export async function ask(prompt, show, signal) {
  const response = await fetch(`${GATEWAY}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'Authorization': `Bearer ${KEY}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ model: 'small', stream: true, messages: [{ role: 'user', content: prompt }] }),
    signal,
  });
  if (!response.ok) throw new Error(`${response.status}: ${(await response.json()).error.message}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) throw new Error('The connection was lost.');
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop(); // It is complete when its line end has come.
      for (const line of lines) {
        if (!line.startsWith('data:')) continue;
        const data = line.slice('data:'.length).trim();
        if (data === '[DONE]') return;
        const { choices, error } = JSON.parse(data);
        if (error) throw new Error(error.message);
        for (const { delta } of choices) show(delta.content ?? '');
      }
    }
  } finally {
    await reader.cancel(); // Whoever stops early closes the connection, and the bill.
  }
}

if (globalThis.process?.argv[1]) {
  try {
    await ask(process.argv.slice(2).join(' ') || 'Why is tea hot?', (text) => process.stdout.write(text));
    console.log('\nComplete.');
  } catch (error) {
    console.error(`\nNot complete. ${error.message}`);
    process.exitCode = 1;
  }
}
