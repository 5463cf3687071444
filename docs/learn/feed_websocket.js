// Show each change. To connect again, and after the right change, is up to this code.
export function listen(show) {
  const address = `${location.origin.replace("http", "ws")}/feed`;
  const first = 1000; // milliseconds until it connects again; twice as long each time
  let wait = first;
  let last = 0; // id of the last change that was shown
  function connect() {
    const socket = new WebSocket(`${address}?after=${last}`);
    socket.onmessage = (event) => {
      const change = JSON.parse(event.data);
      last = change.id;
      wait = first;
      show(change);
    };
    socket.onclose = (event) => {
      if (event.code === 1000) return; // The feed is over.
      setTimeout(connect, wait * (0.5 + Math.random()));
      wait = Math.min(2 * wait, 30_000);
    };
  }
  connect();
}
