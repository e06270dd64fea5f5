/** Files on their way into conversations: shown while they are sent, kept by the browser until they are, also over a reload. */

import { newKey } from "./api.js";
import { byId, make, say, show } from "./dom.js";
import { complain } from "./notices.js";
import { giveUp, sendFile } from "./upload.js";
import { inBytes } from "./words.js";

const MOST = 10; // in one message
const AT_ONCE = 2; // that are sent; more only take from each other

/**
 * @typedef {{text: string, client_txn: string, reply_to: number|null}} Wish what is to be written when all are there
 * @typedef {{key: string, account: string, conversation: string, file: File, upload: string|null, wish: Wish|null}} Kept
 * @typedef {Kept & {sent: number, id: string|null, fault: string, abort: AbortController, row: any}} Item
 */

export class Outgoing {
  /** @type {Item[]} */ #items = [];
  #talk = "";
  #list = byId("outgoing");
  #sending = 0;

  /** @param {string} me @param {(conversation: string, wish: Wish, ids: string[]) => void} ready */
  constructor(me, ready) {
    this.me = me;
    this.ready = ready;
    const chooser = byId("attach-files");
    byId("attach").onclick = () => chooser.click();
    chooser.onchange = () => {
      this.#add(chooser.files);
      chooser.value = "";
    };
    const talk = byId("talk");
    talk.addEventListener("dragover", (event) => event.dataTransfer.types.includes("Files") && event.preventDefault());
    talk.addEventListener("drop", (event) => this.#take(event, event.dataTransfer));
    byId("write-text").addEventListener("paste", (event) => this.#take(event, event.clipboardData));
    restore(me).then((found) => found.forEach((kept) => this.#begin(kept)), complain);
  }

  /** Show those of a conversation. @param {string} id */
  open(id) {
    this.#talk = id;
    this.#draw();
  }

  /** @param {boolean} allowed */
  allow(allowed) {
    byId("attach").disabled = !allowed;
  }

  /** Whether there are files to be sent with what is written next. */
  get any() {
    return this.#of(this.#talk).some(({ wish }) => wish === null);
  }

  /** What waits for its files in a conversation. @param {string} id @returns {Wish[]} */
  waiting(id) {
    return [...new Map(this.#of(id).filter(({ wish }) => wish).map(({ wish }) => [wish.client_txn, wish])).values()];
  }

  /** Write something with the files that are here, as soon as they are there. @param {Wish} wish */
  send(wish) {
    for (const item of this.#of(this.#talk)) {
      if (item.wish !== null) continue;
      item.wish = wish;
      save(item);
    }
    this.#settle(wish);
    this.#draw();
  }

  /** It was written. @param {string} txn */
  written(txn) {
    for (const item of this.#items.filter(({ wish }) => wish?.client_txn === txn)) this.#drop(item);
  }

  /** It was refused: its files are here again. @param {string} txn */
  giveBack(txn) {
    for (const item of this.#items.filter(({ wish }) => wish?.client_txn === txn)) {
      item.wish = null;
      save(item);
    }
    this.#draw();
  }

  #of(id) {
    return this.#items.filter(({ conversation }) => conversation === id);
  }

  #take(event, from) {
    if (!from?.files.length) return;
    event.preventDefault();
    if (!byId("attach").disabled) this.#add(from.files);
  }

  #add(files) {
    const room = MOST - this.#of(this.#talk).filter(({ wish }) => wish === null).length;
    if (files.length > room) complain(new Error(`A message holds ${MOST} files at most`));
    for (const file of [...files].slice(0, room)) {
      const kept = { key: newKey(), account: this.me, conversation: this.#talk, file, upload: null, wish: null };
      keep(kept);
      save(kept);
      this.#begin(kept);
    }
    byId("write-text").focus();
  }

  #begin(kept) {
    this.#items.push({ ...kept, sent: 0, id: null, fault: "", abort: new AbortController(), row: null });
    this.#draw();
    this.#sendNext();
  }

  async #sendNext() {
    const item = this.#items.find(({ id, fault, row }) => id === null && !fault && !row?.sending);
    if (!item || this.#sending >= AT_ONCE) return;
    this.#sending++;
    item.row.sending = true;
    try {
      const { id } = await sendFile(item.file, {
        upload: item.upload,
        signal: item.abort.signal,
        progress: (bytes) => {
          item.sent = bytes;
          this.#show(item);
        },
        begun: (upload) => {
          item.upload = upload;
          save(item);
        },
      });
      item.id = id;
      if (item.wish) this.#settle(item.wish);
    } catch (error) {
      item.fault = error.message;
    }
    this.#sending--;
    this.#show(item);
    this.#sendNext();
  }

  /** Write what all files are there for. @param {Wish} wish */
  #settle(wish) {
    const all = this.#items.filter((item) => item.wish?.client_txn === wish.client_txn);
    if (all.length && all.every(({ id }) => id !== null)) this.ready(all[0].conversation, wish, all.map(({ id }) => id));
  }

  #cancel(item) {
    item.abort.abort();
    if (item.upload !== null) giveUp(item.upload);
    this.#drop(item);
    if (item.wish) this.#settle(item.wish);
    byId("write-text").focus();
  }

  #drop(item) {
    this.#items = this.#items.filter((each) => each !== item);
    forget(item.key);
    this.#draw();
  }

  #draw() {
    for (const item of this.#items) item.row ??= this.#row(item);
    const shown = this.#of(this.#talk);
    this.#list.replaceChildren(...shown.map(({ row }) => row.element));
    show(this.#list, shown.length > 0);
  }

  #row(item) {
    const { name, size } = item.file;
    const bar = make("progress", { max: String(size), value: "0", "aria-label": `${name} is sent` });
    const words = make("span", { class: "soft small" });
    const cancel = make("button", { type: "button", class: "quiet small", "aria-label": `Do not send ${name}`, onclick: () => this.#cancel(item) }, "×");
    const element = make("li", {}, make("span", { class: "file-name" }, name), bar, words, cancel);
    item.row = { element, bar, words, sending: false };
    this.#show(item);
    return item.row;
  }

  #show({ row, sent, id, fault, file }) {
    row.bar.value = sent;
    show(row.bar, !fault && id === null);
    row.element.classList.toggle("failed", fault !== "");
    const percent = file.size ? Math.floor((100 * sent) / file.size) : 100;
    say(row.words, fault || (id !== null ? inBytes(file.size) : sent >= file.size ? "Looked at …" : `${percent} %`));
  }
}

/**
 * Files are kept apart from what becomes of them: whoever writes a record writes all of it, and a film takes its time.
 * @param {"files"|"outgoing"} name @param {(store: IDBObjectStore) => IDBRequest} work @param {IDBTransactionMode} mode
 * @returns {Promise<any>}
 */
async function inStore(name, work, mode) {
  const opening = indexedDB.open("mesi.files", 2);
  opening.onupgradeneeded = () => {
    const database = opening.result;
    for (const former of database.objectStoreNames) database.deleteObjectStore(former);
    for (const store of ["files", "outgoing"]) database.createObjectStore(store, { keyPath: "key" });
  };
  const database = await answer(opening);
  try {
    return await answer(work(database.transaction(name, mode).objectStore(name)));
  } finally {
    database.close();
  }
}

function answer(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

// Where the browser keeps nothing, files are sent all the same, but not over a reload.
function keep({ key, file }) {
  inStore("files", (store) => store.put({ key, file }), "readwrite").catch(() => {});
}

function save({ key, account, conversation, upload, wish }) {
  inStore("outgoing", (store) => store.put({ key, account, conversation, upload, wish }), "readwrite").catch(() => {});
}

function forget(key) {
  for (const name of ["files", "outgoing"]) inStore(name, (store) => store.delete(key), "readwrite").catch(() => {});
}

/** @param {string} me @returns {Promise<Kept[]>} */
async function restore(me) {
  const all = await inStore("outgoing", (store) => store.getAll(), "readonly").catch(() => []);
  const mine = all.filter(({ account }) => account === me);
  const found = await Promise.all(mine.map(async (each) => ({ ...each, file: (await inStore("files", (store) => store.get(each.key), "readonly"))?.file })));
  for (const { key, file } of found) if (!file) forget(key); // it was closed before the browser had kept it
  return found.filter(({ file }) => file);
}
