// A page that follows one order at a time.
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { Order } from "./Order";
import { useStream } from "./useStream";

function Page() {
  const [id, setId] = useState(7);
  const [shown, setShown] = useState(true);
  return (
    <main>
      <button onClick={() => setId(id + 1)}>Next order</button>{" "}
      <button onClick={() => setShown(!shown)}>{shown ? "Hide" : "Show"}</button>
      {shown && <Order id={id} use={useStream} />}
    </main>
  );
}

createRoot(document.querySelector("#root")!).render(<StrictMode><Page /></StrictMode>);
