// Show each change. EventSource connects again by itself, after the last id that it has.
export function listen(show) {
  const source = new EventSource("/feed");
  source.addEventListener("change", (event) => show(JSON.parse(event.data)));
  source.addEventListener("end", () => source.close());
}
