/** Says codes and modes of the server in plain words. */

export const MODES = {
  public: { name: "Open", long: "Open to everyone with an account" },
  private: { name: "Private", long: "Only for people the streamer chose" },
  paid: { name: "Ticket-only", long: "Only for ticket holders" },
  one_to_one: { name: "One-to-one", long: "In a one-to-one" },
};

/** Why someone may not watch: a title, and what would help. */
export const SHUT = {
  ticket_required: ["For ticket holders", "This stream is for ticket holders now. When you have a ticket, it goes on here by itself."],
  payment_pending: ["Your seat is kept", "Once your ticket is paid, the stream goes on here by itself."],
  ticket_revoked: ["Your ticket was taken back", "This stream is for ticket holders. With a new ticket it goes on here by itself."],
  not_entitled: ["A private stream", "This stream is for people its streamer chose. Once you are one of them, it goes on here by itself."],
  kyf_required: ["Something has to be proven first", "This stream is for people who have proven more about themselves. Then it goes on here by itself."],
  suspended: ["Your account is suspended", "Under “Your cases” it says why, and how to contest it."],
  ejected: ["You were put out", "The streamer has removed you from this stream. Only the streamer can let you back in."],
  one_to_one_running: ["In a one-to-one", "The streamer is in a private call. The stream goes on here by itself afterwards."],
};

/** Why a stream ended. */
export const ENDED = {
  ended_by_streamer: "The streamer has ended it.",
  time_limit: "Its time was up.",
  streamer_gone: "The streamer's connection did not come back.",
  never_started: "It never started.",
  taken_down: "It was taken down after a review.",
  internal_error: "Something broke on the server.",
};

/** Why a one-to-one ended. */
export const CALL_ENDED = {
  time_over: "Its time is up.",
  ended_by_streamer: "The streamer ended it.",
  ended_by_guest: "The guest ended it.",
  guest_left: "The guest left.",
  guest_ejected: "The guest was put out.",
  setup_timeout: "One side's camera did not start in time.",
  connection_lost: "A connection did not come back in time.",
  stream_ended: "The stream ended.",
};

/** @param {number} count @param {string} one @param {string} [many] */
export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString()} ${count === 1 ? one : many}`;
}

/** Names in a sentence: the first few, and how many more. */
export function listed(names, total = names.length) {
  const few = names.slice(0, 8);
  const rest = total - few.length;
  return rest > 0 ? `${few.join(", ")} and ${rest.toLocaleString()} more` : few.join(", ");
}

/** How much that is, as people say it. @param {number} bytes */
export function inBytes(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const units = ["kB", "MB", "GB", "TB"];
  const power = Math.min(Math.floor(Math.log10(bytes) / 3), units.length);
  const value = bytes / 1000 ** power;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[power - 1]}`;
}
