// --8<-- [start:read]
/** Hand each piece of a streamed text to `show` as it arrives. */
export async function readText(url, show, signal) {
  const response = await fetch(url, { signal });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  // One decoder for the whole stream: a chunk may end inside a character.
  const decoder = new TextDecoder();
  for await (const chunk of response.body) {
    show(decoder.decode(chunk, { stream: true }));
  }
}
// --8<-- [end:read]
