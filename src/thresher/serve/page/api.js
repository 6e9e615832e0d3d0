// Requests to the server that this page came from.

import { byId } from "./dom.js";

const STORE = "thresher-key";

class Refusal extends Error {
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

async function refusal(answer) {
  let message = `the server answered ${answer.status}`;
  try {
    const said = await answer.json();
    message = said.error?.message ?? said.message ?? said.detail ?? message;
  } catch { /* no JSON: the status says it */ }
  const wait = Number(answer.headers.get("retry-after"));
  return new Refusal(answer.status, String(message), Number.isFinite(wait) && wait > 0 ? wait : null);
}

/** One request; a missing or wrong key is asked for once, and the request sent again. */
async function send(path, { body, signal, accept = "application/json" } = {}) {
  const headers = { accept };
  const key = sessionStorage.getItem(STORE);
  if (key) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method: body === undefined ? "GET" : "POST", headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit", cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The server does not answer.");
  }
  if (answer.status === 401) {
    if (!(await askForKey(key ? "The server did not accept this key." : "", key))) throw await refusal(answer);
    return send(path, { body, signal, accept });
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

export async function get(path, options) {
  return (await send(path, options)).json();
}

export async function post(path, body, options) {
  return (await send(path, { ...options, body })).json();
}

let asked = null;

/** Ask for a key in a dialog, once for all requests that wait for it. False where none is given. */
function askForKey(problem, refused) {
  if (refused !== sessionStorage.getItem(STORE)) return Promise.resolve(true); // another request got one meanwhile
  asked ??= new Promise((resolve) => {
    const dialog = byId("key-dialog");
    byId("key-problem").textContent = problem;
    byId("key").value = "";
    dialog.returnValue = "cancel";
    dialog.addEventListener("close", () => {
      asked = null;
      const key = byId("key").value.trim();
      byId("key").value = "";
      if (dialog.returnValue !== "use" || !key) { resolve(false); return; }
      sessionStorage.setItem(STORE, key);
      resolve(true);
    }, { once: true });
    dialog.showModal();
    byId("key").focus();
  });
  return asked;
}

export const forgetKey = () => sessionStorage.removeItem(STORE);

/** `/ask` as server-sent events: `stage(report)` as each stage ends, `passages(found)`; returns the whole answer. */
export async function ask(body, { signal, stage, passages }) {
  const answer = await send("/ask", { body, signal, accept: "text/event-stream" });
  const whole = {};
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let complete = false;
  for (;;) {
    const { value, done } = await reader.read();
    if (done && complete) return whole;
    if (done) throw new Refusal(0, "The answer ended before it was complete.");
    rest += value.replaceAll("\r", "");
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const event = parsed(rest.slice(0, end));
      rest = rest.slice(end + 2);
      if (event.name === "stage") stage(event.data);
      if (event.name === "passages") { Object.assign(whole, event.data); passages(event.data); }
      if (event.name === "usage") Object.assign(whole, event.data);
      if (event.name === "error") throw new Refusal(event.data.status ?? 500, event.data.error?.message ?? "the request failed");
      if (event.name === "done") complete = true;
    }
  }
}

function parsed(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
  }
  return { name, data: data.length ? JSON.parse(data.join("\n")) : {} };
}
