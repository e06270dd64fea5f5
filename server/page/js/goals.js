/** Shows what somebody collects for, as bars that grow while people tip. */

import { ask } from "./api.js";
import { busy, make, say, show } from "./dom.js";
import { inMoney, learnAssets } from "./money.js";
import { complain } from "./notices.js";

const STEPS = 1000n; // of a bar

export class Goals {
  /** @type {Map<string, {row: HTMLElement, tell: (goal: any) => void}>} */ #rows = new Map();

  /**
   * @param {HTMLElement} place an empty section
   * @param {string} owner whose name
   * @param {{stream?: string|null, mine?: boolean}} [how] `mine` may be taken down
   */
  constructor(place, owner, { stream = null, mine = false } = {}) {
    Object.assign(this, { place, stream, mine, path: `/accounts/${encodeURIComponent(owner)}/goals` });
    this.list = make("ul", { class: "goals-list", "aria-live": "polite" });
    place.replaceChildren(make("h2", {}, mine ? "Your goals" : `${owner} collects for`), this.list);
  }

  /** Fetch them anew. */
  async refresh() {
    try {
      const [{ goals }] = await Promise.all([ask("GET", this.path), learnAssets()]);
      this.#rows.clear();
      this.list.replaceChildren();
      for (const goal of goals) this.#show(goal.id, goal);
      show(this.place, this.#rows.size > 0);
    } catch (error) {
      if (error.code !== "account_unknown") complain(error);
    }
  }

  /** Take the news of one goal. @param {any} event of the wire, "goal" */
  take(event) {
    this.#show(event.goal, event);
    show(this.place, this.#rows.size > 0);
  }

  #show(id, goal) {
    if (goal.stream !== null && goal.stream !== this.stream && !this.mine) return;
    const known = this.#rows.get(id) ?? this.#add(id, goal);
    known.tell(goal);
  }

  #add(id, { title }) {
    const text = make("p", { class: "soft small" });
    const bar = make("progress", { max: String(STEPS), "aria-label": title });
    const remove = make("button", { type: "button", class: "small quiet", "aria-label": `Take down: ${title}` }, "Take down");
    remove.onclick = () => busy(remove, () => this.#remove(id));
    const row = make("li", {}, make("div", { class: "row spread" }, make("strong", {}, title), this.mine ? remove : null), bar, text);
    const tell = ({ amount, collected, reached_at }) => {
      const part = (BigInt(collected) * STEPS) / BigInt(amount.units);
      bar.value = Number(part > STEPS ? STEPS : part);
      say(text, `${inMoney({ asset: amount.asset, units: collected })} of ${inMoney(amount)}${reached_at === null ? "" : ": reached!"}`);
    };
    this.list.append(row);
    this.#rows.set(id, { row, tell });
    return this.#rows.get(id);
  }

  async #remove(id) {
    try {
      await ask("DELETE", `/goals/${encodeURIComponent(id)}`);
    } catch (error) {
      if (error.code !== "goal_unknown") return complain(error);
    }
    return this.refresh();
  }
}
