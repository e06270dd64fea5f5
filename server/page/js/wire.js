/**
 * Says the shapes of what the server sends, for editors and readers; it holds no code.
 *
 * All times are epoch milliseconds of the server's clock.
 *
 * @typedef {"public"|"private"|"paid"|"one_to_one"} Mode
 * @typedef {{id: string, name: string}} Person
 * @typedef {{id: string, title: string, description: string, kind: "video"|"audio", mode: Mode,
 *   state: "waiting"|"live"|"interrupted"|"one_to_one", streamer: Person, viewers: number, epoch: number,
 *   started_at: number, ends_at: number|null, one_to_one_ends_at: number|null, next_mode: Mode|null,
 *   switches_at: number|null, best_picture: "everyone"|"entitled"}} Card
 * @typedef {{admitted: boolean, reason: string|null, grants: string[], role: "streamer"|"guest"|"viewer",
 *   readmit: string[], best_picture: boolean, extension_s: number}} You
 * @typedef {{stream: string, seq: number, circle: "main"|"one_to_one", from: Person, text: string, at: number}} ChatMessage
 * @typedef {{id: string, name: string, seconds: number|null, confirm_by?: number|null}} WaitingGuest
 * @typedef {{card: Card, participants: {account: Person, admitted: boolean, watching: boolean}[], present: number,
 *   tickets: Person[], entitled: Person[], ejected: Person[], requests: WaitingGuest[],
 *   one_to_one: {guest: Person, ends_at: number|null}|null}} RoomView
 * @typedef {{mode: Mode, would_remove: string[], would_remove_count: number, holders: string[], holders_count: number,
 *   confirm_token: string, expires_at: number}} Prepared
 */
export {};
