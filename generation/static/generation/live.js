// One WebSocket for the page: subscribes, receives updates, and reconnects with backoff.

import { announce, realtimeOrigin, showConnection, showNotice, signedOut } from "./page.js";

const MIN_BACKOFF = 1_000;
const MAX_BACKOFF = 30_000;
const PING_INTERVAL = 25_000;
const SILENCE_LIMIT = 60_000; // without a message the connection counts as dead
const MAX_SUBSCRIPTIONS = 190; // the server allows 200
const SEND_INTERVAL = 25; // ms between two messages; the server allows 60 a second
const SESSION_ENDED = 4401;

export class Live {
  #watched = new Map(); // "requestId vga_…" → {requestId}
  #subscribed = new Set();
  #outbox = [];
  #socket = null;
  #backoff = MIN_BACKOFF;
  #timers = new Set();
  #lastMessageAt = 0;
  #disconnected = false;
  #detail = null;

  /** `onUpdate(request)` gets each new state of a watched request, and `onPreview(message)` each preview;
   * `onReconnect()` is called after an interruption. */
  constructor({ onUpdate, onPreview = () => {}, onReconnect = () => {} }) {
    this.onUpdate = onUpdate;
    this.onPreview = onPreview;
    this.onReconnect = onReconnect;
    addEventListener("online", () => this.#connectNow());
    addEventListener("offline", () => this.#drop());
    addEventListener("pagehide", () => this.#socket?.close());
    addEventListener("pageshow", (event) => event.persisted && this.#connect());
    setInterval(() => this.#checkAlive(), PING_INTERVAL);
    setInterval(() => this.#send(), SEND_INTERVAL);
    this.#connect();
  }

  /** Watch a request or a batch: `watch("requestId", id)`. */
  watch(name, id) {
    this.#watched.set(`${name} ${id}`, { [name]: id });
    this.#subscribe();
  }

  unwatch(name, id) {
    const key = `${name} ${id}`;
    if (!this.#watched.delete(key)) return;
    if (this.#subscribed.delete(key)) this.#outbox.push({ type: "unsubscribe", [name]: id });
    this.#subscribe();
  }

  #subscribe() {
    if (!this.#isOpen()) return;
    for (const [key, target] of this.#watched) {
      if (this.#subscribed.size >= MAX_SUBSCRIPTIONS) break;
      if (this.#subscribed.has(key)) continue;
      this.#subscribed.add(key);
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
    const socket = new WebSocket(`${realtimeOrigin()}/ws/visual-generation`);
    this.#socket = socket;
    this.#lastMessageAt = Date.now();
    if (!this.#disconnected) showConnection("connecting");
    socket.addEventListener("message", (event) => this.#receive(socket, JSON.parse(event.data)));
    socket.addEventListener("close", (event) => socket === this.#socket && this.#closed(event.code));
  }

  #receive(socket, message) {
    if (socket !== this.#socket) return;
    this.#lastMessageAt = Date.now();
    if (message.type === "authenticated") {
      socket.authenticated = true;
      this.#backoff = MIN_BACKOFF;
      this.#subscribed.clear();
      this.#outbox = [];
      this.#subscribe();
      showConnection("live");
      showNotice(null);
      this.#detail = null;
      if (this.#disconnected) {
        this.#disconnected = false;
        announce("Reconnected.");
        this.onReconnect();
      }
    } else if (message.type === "update" || (message.type === "subscribed" && message.requestId)) {
      this.onUpdate(message.data);
    } else if (message.type === "preview") {
      this.onPreview(message);
    } else if (message.type === "subscribed" && message.batchId) {
      message.data.requests.forEach(this.onUpdate);
    }
  }

  #closed(code) {
    this.#socket = null;
    if (code === SESSION_ENDED) {
      signedOut();
      return;
    }
    this.#disconnected = true;
    const wait = this.#backoff * (0.75 + Math.random() / 2);
    this.#backoff = Math.min(2 * this.#backoff, MAX_BACKOFF);
    const until = Date.now() + wait;
    showConnection("waiting");
    if (!this.#detail) {
      this.#detail = showNotice("Live updates are interrupted.", { label: "Try now", onClick: () => this.#connectNow() });
    }
    const countDown = () => {
      const seconds = Math.max(0, Math.ceil((until - Date.now()) / 1000));
      this.#detail.textContent = seconds ? `Reconnecting in ${seconds} s.` : "Reconnecting …";
    };
    countDown();
    this.#timers.add(setInterval(countDown, 1_000));
    this.#timers.add(setTimeout(() => this.#connect(), wait));
  }

  /** Drop the connection at once: a dead one may take minutes to close. */
  #drop() {
    const socket = this.#socket;
    if (!socket) return;
    this.#closed(0);
    socket.close();
  }

  #connectNow() {
    if (this.#disconnected && this.#socket === null) this.#connect();
  }

  #checkAlive() {
    if (!this.#isOpen()) return;
    if (Date.now() - this.#lastMessageAt > SILENCE_LIMIT) {
      this.#drop();
    } else {
      this.#socket.send('{"type": "ping"}');
    }
  }
}
