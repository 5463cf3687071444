// Print a language model's answer as it is written: node llm_text.mjs 'Why …?'.
// In a web page keep `ask`, and append each piece to `textContent`.

const URL_OF_RECIPE = 'http://127.0.0.1:8000/answer';

/** Call `show` with each piece; throw an error if the end does not come. */
export async function ask(prompt, show, signal) {
  const query = new URLSearchParams({ prompt });
  const response = await fetch(`${URL_OF_RECIPE}?${query}`, { signal });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  // One decoder for the whole answer: a chunk may end inside a character.
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  while (true) {
    const { done, value } = await reader.read();
    if (done) return;
    show(value);
  }
}

if (globalThis.process?.argv[1]) {
  const prompt = process.argv.slice(2).join(' ') || 'Why is tea hot?';
  try {
    await ask(prompt, (text) => process.stdout.write(text));
    console.log();
  } catch (error) {
    console.error(`\nNot complete. ${error.message}`);
    process.exitCode = 1;
  }
}
