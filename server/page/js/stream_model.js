/** Keeps what a page knows of one stream as a value: `applied(model, event)` is the model after a wire event. */

/**
 * `call` is the one-to-one as one of its two sees it, with the deadline of its phase; `othersCallEndsAt` is what the
 * others may know; its `asked` are the seconds more that its guest asks for. `closesAt`: without the streamer's
 * connection the stream ends then. `asked` is the own request; with `comeBy` it is one's turn until then.
 *
 * @typedef {object} Model
 * @property {import("./wire.js").Card|null} card
 * @property {import("./wire.js").You|null} you
 * @property {string[]} names
 * @property {{phase: "setup"|"running"|"paused", endsAt: number|null, asked?: number}|null} call
 * @property {number|null} othersCallEndsAt
 * @property {{position: number|null, waiting?: number, startsAt?: number, comeBy?: number|null}|null} asked
 * @property {import("./wire.js").WaitingGuest[]} requests
 * @property {number|null} closesAt
 * @property {string|null} ended
 */

/** @type {Readonly<Model>} */
export const NOTHING = Object.freeze({
  card: null, you: null, names: [], call: null, othersCallEndsAt: null, asked: null, requests: [], closesAt: null, ended: null,
});

/** The types of events that change a model. */
export const TYPES = [
  "stream.state", "room.presence", "stream.started", "stream.mode_changed", "stream.mode_pending",
  "stream.mode_called_off", "stream.best_picture", "stream.updated", "stream.hosts", "stream.time_limit", "stream.interrupted", "stream.resumed", "stream.ended",
  "access.granted", "access.revoked", "one_to_one.requested", "one_to_one.queued", "one_to_one.offered",
  "one_to_one.declined", "one_to_one.cancelled", "one_to_one.accepted", "one_to_one.started", "one_to_one.paused",
  "one_to_one.extension_asked", "one_to_one.extension_ended", "one_to_one.extended", "one_to_one.ended",
  "one_to_one.notice",
];

/** The types of events after which a sale of tickets is another one. */
export const SALE_TYPES = [
  "sale.opened", "sale.changed", "sale.began", "sale.earned", "sale.closed", "sale.sold_out", "sale.delivered", "sale.cancelled",
];

/**
 * @param {Model} model
 * @param {any} event of the stream that the model is of
 * @param {string} me the own account's id
 * @returns {Model}
 */
export function applied(model, event, me) {
  const isStreamer = model.you?.role === "streamer";
  switch (event.type) {
    case "stream.state":
      return { ...model, card: event.card, you: event.you, call: callOf(model, event), othersCallEndsAt: event.card.one_to_one_ends_at, closesAt: event.card.state === "interrupted" ? model.closesAt : null };
    case "room.presence":
      return { ...withCard(model, { viewers: event.viewers }), names: event.names ?? model.names };
    case "stream.started":
    case "stream.resumed":
      return { ...withPicture(model, "live"), closesAt: null };
    case "stream.interrupted":
      return { ...withPicture(model, "interrupted"), closesAt: event.ends_at };
    case "stream.mode_changed":
      return modeChanged(model, event);
    case "stream.mode_pending":
      return withCard(model, { next_mode: event.mode, switches_at: event.at });
    case "stream.mode_called_off":
      return withCard(model, { next_mode: null, switches_at: null });
    case "stream.hosts":
      return withCard(model, { hosts: event.hosts });
    case "stream.best_picture":
      return withYou(withCard(model, { best_picture: event.best_picture }), { best_picture: event.yours });
    case "stream.updated":
      return withCard(model, { title: event.title, description: event.description });
    case "stream.time_limit":
      return withCard(model, { ends_at: event.ends_at });
    case "stream.ended":
      return { ...model, ended: event.reason, call: null, asked: null, requests: [] };
    case "access.granted":
      return withYou(model, { admitted: true, reason: null, readmit: [] }); // the state follows
    case "access.revoked":
      return { ...withYou(model, { admitted: false, reason: event.reason, readmit: event.readmit, best_picture: false }), asked: event.reason === "ejected" ? null : model.asked };
    case "one_to_one.requested":
      return { ...model, requests: [...without(model.requests, event.account), { id: event.account, name: event.name, seconds: event.seconds }] };
    case "one_to_one.queued":
      return { ...model, asked: { position: event.position, waiting: event.waiting, startsAt: event.estimated_start, comeBy: model.asked?.comeBy } };
    case "one_to_one.offered":
      if (event.account === me) return { ...model, asked: { ...(model.asked ?? { position: 1 }), comeBy: event.confirm_by } };
      return { ...model, requests: model.requests.map((each) => (each.id === event.account ? { ...each, confirm_by: event.confirm_by } : each)) };
    case "one_to_one.declined":
    case "one_to_one.cancelled":
      return { ...model, requests: without(model.requests, event.account), asked: event.account === me ? null : model.asked };
    case "one_to_one.accepted":
      return { ...withYou(model, isStreamer ? {} : { role: "guest" }), call: { phase: "setup", endsAt: event.setup_ends_at }, asked: null };
    case "one_to_one.started":
      return { ...model, call: { ...model.call, phase: "running", endsAt: event.ends_at } };
    case "one_to_one.paused":
      return { ...model, call: { ...model.call, phase: "paused", endsAt: event.resume_by } };
    case "one_to_one.extension_asked":
      return withCall(model, { asked: event.seconds });
    case "one_to_one.extension_ended":
      return withCall(model, { asked: 0 });
    case "one_to_one.extended": // while it is paused, the deadline is that of the pause
      return withCall(model, event.ends_at === null ? { asked: 0 } : { asked: 0, endsAt: event.ends_at });
    case "one_to_one.ended":
      return { ...withYou(model, isStreamer ? {} : { role: "viewer" }), call: null };
    case "one_to_one.notice":
      return { ...model, othersCallEndsAt: event.ends_at };
    default:
      return model;
  }
}

/** @param {Model} model @param {import("./wire.js").RoomView} room */
export function withRoom(model, room) {
  return { ...model, card: room.card, requests: [...room.requests] };
}

function callOf(model, { card, you }) {
  if (card.mode !== "one_to_one" || you.role === "viewer") return null;
  const known = { ...(model.call ?? { phase: "setup", endsAt: null }), asked: you.extension_s };
  return card.one_to_one_ends_at === null ? known : { ...known, phase: "running", endsAt: card.one_to_one_ends_at };
}

function modeChanged(model, { mode, epoch }) {
  const before = model.card?.state === "one_to_one" ? "live" : model.card?.state;
  const state = mode === "one_to_one" ? "one_to_one" : before;
  return { ...withCard(model, { mode, epoch, state, next_mode: null, switches_at: null }), othersCallEndsAt: mode === "one_to_one" ? model.othersCallEndsAt : null };
}

function withPicture(model, state) {
  return model.card?.state === "one_to_one" ? model : withCard(model, { state });
}

function withCard(model, changes) {
  return model.card ? { ...model, card: { ...model.card, ...changes } } : model;
}

function withCall(model, changes) {
  return model.call ? { ...model, call: { ...model.call, ...changes } } : model;
}

function withYou(model, changes) {
  return model.you ? { ...model, you: { ...model.you, ...changes } } : model;
}

function without(requests, account) {
  return requests.filter((request) => request.id !== account);
}
