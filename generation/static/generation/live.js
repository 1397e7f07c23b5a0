// One WebSocket for the page: says what is watched, hears what changes, and comes back after a break.

import { notify, say, showState, signedOut } from "./page.js";

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;
const PING_EVERY = 25_000;
const PATIENCE = 60_000; // without a sign of life
const MOST_WATCHED = 190; // the server takes 200
const PACE = 25; // ms between two messages; the server takes 60 in a second
const SESSION_ENDED = 4401;

function address() {
  const { realtimeBase, realtimePort } = document.body.dataset;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const base = realtimeBase || `${scheme}://${realtimePort ? `${location.hostname}:${realtimePort}` : location.host}`;
  return `${base}/ws/visual-generation`;
}

export class Live {
  #wanted = new Map(); // "requestId vga_…" → {requestId}
  #asked = new Set();
  #outbox = [];
  #socket = null;
  #pause = FIRST_PAUSE;
  #timers = new Set();
  #heardAt = 0;
  #lost = false;
  #detail = null;

  /** `hear(data)` gets the state of each request that is watched; `back()` is called when a break is over. */
  constructor({ hear, back = () => {} }) {
    this.hear = hear;
    this.back = back;
    addEventListener("online", () => this.#now());
    addEventListener("offline", () => this.#drop());
    addEventListener("pagehide", () => this.#socket?.close());
    addEventListener("pageshow", (event) => event.persisted && this.#connect());
    setInterval(() => this.#check(), PING_EVERY);
    setInterval(() => this.#send(), PACE);
    this.#connect();
  }

  /** Follow a request or a batch: `watch("requestId", id)`. */
  watch(name, id) {
    this.#wanted.set(`${name} ${id}`, { [name]: id });
    this.#ask();
  }

  unwatch(name, id) {
    const key = `${name} ${id}`;
    if (!this.#wanted.delete(key)) return;
    if (this.#asked.delete(key)) this.#outbox.push({ type: "unsubscribe", [name]: id });
    this.#ask();
  }

  #ask() {
    if (!this.#isOpen()) return;
    for (const [key, target] of this.#wanted) {
      if (this.#asked.size >= MOST_WATCHED) break;
      if (this.#asked.has(key)) continue;
      this.#asked.add(key);
      this.#outbox.push({ type: "subscribe", ...target });
    }
  }

  #isOpen() {
    return this.#socket?.authenticated === true && this.#socket.readyState === WebSocket.OPEN;
  }

  #send() {
    if (this.#outbox.length && this.#isOpen()) this.#socket.send(JSON.stringify(this.#outbox.shift()));
  }

  #connect() {
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers.clear();
    const socket = new WebSocket(address());
    this.#socket = socket;
    this.#heardAt = Date.now();
    if (!this.#lost) showState("connecting");
    socket.addEventListener("message", (event) => this.#receive(socket, JSON.parse(event.data)));
    socket.addEventListener("close", (event) => socket === this.#socket && this.#closed(event.code));
  }

  #receive(socket, message) {
    if (socket !== this.#socket) return;
    this.#heardAt = Date.now();
    if (message.type === "authenticated") {
      socket.authenticated = true;
      this.#pause = FIRST_PAUSE;
      this.#asked.clear();
      this.#outbox = [];
      this.#ask();
      showState("live");
      notify(null);
      this.#detail = null;
      if (this.#lost) {
        this.#lost = false;
        say("Connected again.");
        this.back();
      }
    } else if (message.type === "update" || (message.type === "subscribed" && message.requestId)) {
      this.hear(message.data);
    } else if (message.type === "subscribed" && message.batchId) {
      message.data.requests.forEach(this.hear);
    }
  }

  #closed(code) {
    this.#socket = null;
    if (code === SESSION_ENDED) {
      signedOut();
      return;
    }
    this.#lost = true;
    const wait = this.#pause * (0.75 + Math.random() / 2);
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE);
    const until = Date.now() + wait;
    showState("waiting");
    if (!this.#detail) {
      this.#detail = notify("Live updates are interrupted.", { label: "Try now", act: () => this.#now() });
    }
    const tell = () => {
      const seconds = Math.max(0, Math.ceil((until - Date.now()) / 1000));
      this.#detail.textContent = seconds ? `Trying again in ${seconds} s.` : "Trying again.";
    };
    tell();
    this.#timers.add(setInterval(tell, 1_000));
    this.#timers.add(setTimeout(() => this.#connect(), wait));
  }

  /** Without waiting for the connection to say that it is dead, which may take minutes. */
  #drop() {
    const socket = this.#socket;
    if (!socket) return;
    this.#closed(0);
    socket.close();
  }

  #now() {
    if (this.#lost && this.#socket === null) this.#connect();
  }

  #check() {
    if (!this.#isOpen()) return;
    if (Date.now() - this.#heardAt > PATIENCE) {
      this.#drop();
    } else {
      this.#socket.send('{"type": "ping"}');
    }
  }
}
