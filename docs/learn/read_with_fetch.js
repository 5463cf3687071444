// Read a stream as a page does; `got` is called with each piece of it.
export async function read(url, got) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`the server answers ${response.status}`);
  const decoder = new TextDecoder(); // keeps half a character for the next piece
  const reader = response.body.getReader();
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    await got(value, decoder.decode(value, { stream: true }));
  }
}
